//! What the table before a training shows: counts, BatchNorm's policy, rates and phases, within a hundred columns.

use super::*;
use crate::freezing::resolve;
use crate::freezing::tests::{everything, group, only, unfreeze};
use crate::recipe::ModelName;

fn text_of(settings: &FreezingSettings) -> String {
    table(settings, 10, &resolve(settings).unwrap())
}

#[test]
fn a_head_on_frozen_layers_is_plain_to_see() {
    assert_eq!(
        text_of(&only(&["head"])),
        "\
stage   parameters  trained    share  batch norm uses     learning rate
stem         9,536        0    0.0 %  running statistics  -
layer1     215,808        0    0.0 %  running statistics  -
layer2   1,219,584        0    0.0 %  running statistics  -
layer3   7,098,368        0    0.0 %  running statistics  -
layer4  14,964,736        0    0.0 %  running statistics  -
fc          20,490   20,490  100.0 %  -                   0.1
total   23,528,522   20,490    0.1 %  running statistics  0.1
"
    );
}

#[test]
fn frozen_batch_norm_in_training_mode_is_told() {
    let settings = FreezingSettings { frozen_batch_norm: FrozenBatchNorm::Train, ..only(&["head"]) };
    let text = text_of(&settings);
    assert_eq!(text.matches("batch statistics").count(), 6);
    assert_eq!(text.matches("running").count(), 0);
}

#[test]
fn batch_norm_layers_that_are_partly_trained_are_counted() {
    // Of layer4's ten, the three of its last block; a bias alone makes a layer a trained one.
    let text = text_of(&only(&["layer4.2", "layer3.0.bn1.bias"]));
    assert!(
        text.lines().any(|line| line.contains("layer4") && line.contains("batch 3, running 7")),
        "{text}"
    );
    assert!(
        text.lines().any(|line| line.contains("layer3") && line.contains("batch 1, running 18")),
        "{text}"
    );
    assert!(
        text.lines().any(|line| line.contains("total") && line.contains("batch 4, running 49")),
        "{text}"
    );
}

#[test]
fn phases_come_one_below_the_other() {
    let settings = FreezingSettings {
        unfreeze_at: unfreeze(3, &["*"]),
        groups: vec![group("layer4", 1e-5, None), group("layer4.0.conv1", 2e-5, None)],
        ..only(&["head"])
    };
    let settings = FreezingSettings { groups: settings.groups.into_iter().rev().collect(), ..settings };
    let text = text_of(&settings);
    assert!(text.starts_with("epochs 1 to 3:\nstage "), "{text}");
    assert!(text.contains("\n\nfrom epoch 4:\nstage "), "{text}");
    let layer4: Vec<&str> = text.lines().filter(|line| line.starts_with("layer4")).collect();
    assert!(layer4[0].ends_with("running statistics  -"), "{text}");
    assert!(layer4[1].ends_with("100.0 %  batch statistics  1e-5 to 2e-5"), "{text}");
    assert!(text.ends_with("1e-5 to 0.1\n"), "{text}");
    let one = FreezingSettings { unfreeze_at: unfreeze(1, &["*"]), ..only(&["head"]) };
    assert!(text_of(&one).starts_with("epoch 1:\n"));
}

#[test]
fn the_widest_table_fits_a_hundred_columns() {
    let settings = FreezingSettings {
        model: ModelName::Resnet152,
        groups: vec![group("fc", 1.234_567_891e-12, None), group("layer3.1", 0.123_456_789, None)],
        lr: 9.876_543_21e-11,
        unfreeze_at: unfreeze(1000, &["layer3.1", "layer2.1"]),
        ..only(&["head"])
    };
    let phases = resolve(&settings).unwrap();
    let text = table(&settings, 2_000_000, &phases);
    let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 100, "{widest}\n{text}");
    assert!(text.lines().all(|line| line.trim_end() == line));
}

#[test]
fn rates_are_short_and_their_own() {
    for (number, text) in [
        (0.1, "0.1"),
        (1.0, "1"),
        (0.001, "0.001"),
        (1e-4, "0.0001"),
        (3e-5, "3e-5"),
        (0.123_456_789, "0.123457"),
        (1.234_567_891e-12, "1.23457e-12"),
        (250.0, "250"),
        (2e9, "2e9"),
    ] {
        assert_eq!(rate(number), text);
    }
    assert_eq!(rate(everything().lr), "0.1");
}
