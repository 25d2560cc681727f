//! Where the frozen prefix ends, and that going in behind it changes no bit.

use std::convert::Infallible;

use super::*;

/// Of a ResNet18: stem, eight blocks, pooling, fc.
const PARTS: usize = 11;

#[test]
fn the_boundary_lies_before_the_first_part_that_training_changes() {
    let boundary = |prefixes: &[&str], norms| {
        let model = resnet18(&freezing(prefixes, norms));
        (model.boundary(), model.boundary_name())
    };
    let named = |parts, name: &str| (parts, Some(name.to_owned()));
    let eval = FrozenBatchNorm::Eval;
    assert_eq!(boundary(&["fc."], eval), named(PARTS - 1, "the pooled features"));
    assert_eq!(boundary(&["fc.bias"], eval), named(PARTS - 1, "the pooled features"));
    assert_eq!(boundary(&["layer4.", "fc."], eval), named(7, "layer3"));
    assert_eq!(boundary(&["layer4.1.bn2.bias"], eval), named(8, "layer4.0"));
    assert_eq!(boundary(&["layer1.0.downsample", "layer2.0.downsample.1."], eval), named(3, "layer1"));
    assert_eq!(boundary(&["layer1.0."], eval), named(1, "the stem"));
    assert_eq!(boundary(&["bn1.", "fc."], eval), (0, None));
    assert_eq!(boundary(&["conv1."], eval), (0, None));
    // Nothing is trained; fc is never in the prefix.
    assert_eq!(boundary(&[], eval), named(PARTS - 1, "the pooled features"));
    // The batch's statistics decide what comes out of every layer.
    assert_eq!(boundary(&["fc."], FrozenBatchNorm::Train), (0, None));
    assert_eq!(resnet18(&Freezing::none()).boundary(), 0);
}

#[test]
fn every_boundary_of_a_deeper_network_has_a_name() {
    let architecture = Architecture::new(spec(ModelName::Resnet50, 10));
    let names: Vec<Option<String>> =
        (0..architecture.parts()).map(|parts| architecture.output_name(parts)).collect();
    let told: Vec<&str> = names.iter().map(|name| name.as_deref().unwrap_or("pictures")).collect();
    let expected = [
        &[
            "pictures", "the stem", "layer1.0", "layer1.1", "layer1", "layer2.0", "layer2.1", "layer2.2",
            "layer2",
        ][..],
        &["layer3.0", "layer3.1", "layer3.2", "layer3.3", "layer3.4", "layer3"],
        &["layer4.0", "layer4.1", "layer4", "the pooled features"],
    ];
    assert_eq!(told, expected.concat());
}

#[test]
fn going_in_at_the_boundary_changes_no_bit() {
    let x = images(1);
    for (prefixes, shape) in [
        (&["fc."][..], &[4, 512][..]),
        (&["layer4.", "fc."], &[4, 256, 2, 2]),
        (&["layer4.1.conv2.", "fc."], &[4, 512, 1, 1]),
        (&["layer2.1.", "fc."], &[4, 128, 4, 4]),
        (&["conv1."], &[4, 3, 32, 32]),
    ] {
        let model = resnet18(&freezing(prefixes, FrozenBatchNorm::Eval));
        let prefix = model.forward_prefix(&x);
        assert_eq!(prefix.size(), shape, "{prefixes:?}");
        assert!(!prefix.requires_grad());
        let at_boundary = Input::Boundary(&prefix);
        assert!(same_bits(&model.forward_eval(&x), &model.forward_eval(at_boundary)), "{prefixes:?}");
        let gradient = |input: Input<'_>| {
            let gradient = model.new_gradient();
            let (logits, tape) = model.forward_train(input);
            let done = model.backward(tape, &loss(&logits), &gradient, |_| Ok::<(), Infallible>(()));
            done.expect("nothing stops it");
            (gradient, model.shard_statistics().copy())
        };
        let (from_images, from_boundary) = (gradient((&x).into()), gradient(at_boundary));
        assert!(same_bits(&from_images.0, &from_boundary.0), "{prefixes:?}");
        assert!(same_bits(&from_images.1, &from_boundary.1), "{prefixes:?}");
    }
}
