//! What a person may rely on when they say what is trained: names, precedence, phases, and errors with a way out.

use proptest::prelude::*;

use super::*;
use crate::model::{ALL, parameter_names};

/// ResNet50, all trained at 0.1 with a weight decay of 0.01.
pub(super) fn everything() -> FreezingSettings {
    FreezingSettings {
        model: ModelName::Resnet50,
        trainable: Some(vec!["*".to_owned()]),
        frozen: None,
        frozen_batch_norm: FrozenBatchNorm::Eval,
        unfreeze_at: None,
        groups: Vec::new(),
        lr: 0.1,
        weight_decay: 0.01,
        decay_norm_and_bias: true,
    }
}

pub(super) fn only(patterns: &[&str]) -> FreezingSettings {
    FreezingSettings { trainable: Some(texts(patterns)), ..everything() }
}

pub(super) fn group(pattern: &str, lr: f64, weight_decay: Option<f64>) -> Group {
    Group { pattern: pattern.to_owned(), lr, weight_decay }
}

pub(super) fn unfreeze(epoch: u32, patterns: &[&str]) -> Option<Unfreeze> {
    Some(Unfreeze { epoch, patterns: texts(patterns) })
}

fn texts(patterns: &[&str]) -> Vec<String> {
    patterns.iter().map(|pattern| (*pattern).to_owned()).collect()
}

/// What is trained in each phase, in forward order.
fn trained(settings: &FreezingSettings) -> Vec<Vec<String>> {
    let order = parameter_names(settings.model);
    let phases = resolve(settings).unwrap();
    phases
        .iter()
        .map(|phase| order.iter().filter(|name| phase.group_of(name).is_some()).cloned().collect())
        .collect()
}

fn refused(settings: &FreezingSettings) -> (String, String) {
    let error = resolve(settings).unwrap_err();
    (error.to_string(), error.hint().unwrap_or_default())
}

#[test]
fn one_set_of_settings_is_one_phase_with_one_group() {
    let phases = resolve(&only(&["fc"])).unwrap();
    let head = texts(&["fc.weight", "fc.bias"]);
    assert_eq!(
        phases,
        [Phase { epoch: 0, groups: vec![ResolvedGroup { parameters: head, lr: 0.1, weight_decay: 0.01 }] }]
    );
    assert_eq!(trained(&everything()), [parameter_names(ModelName::Resnet50)]);
    let neither = FreezingSettings { trainable: None, ..everything() };
    assert_eq!(trained(&neither), trained(&everything()));
}

#[test]
fn several_patterns_add_up() {
    assert_eq!(trained(&only(&["layer4.*", "fc"])), trained(&only(&["from:layer4"])));
    assert_eq!(trained(&only(&["fc", "head", "fc.*"])), trained(&only(&["fc"])));
    assert_eq!(
        resolve(&only(&["fc", "layer4"])),
        resolve(&only(&["layer4", "fc"])),
        "the order is the network's"
    );
}

#[test]
fn what_is_not_frozen_is_trained() {
    let frozen =
        FreezingSettings { trainable: None, frozen: Some(texts(&["stem", "layer[1-3]"])), ..everything() };
    assert_eq!(trained(&frozen), trained(&only(&["from:layer4"])));
}

#[test]
fn unfreezing_adds_to_what_is_trained_from_its_epoch_on() {
    let settings = FreezingSettings { unfreeze_at: unfreeze(3, &["layer4"]), ..only(&["head"]) };
    let epochs: Vec<u32> = resolve(&settings).unwrap().iter().map(|phase| phase.epoch).collect();
    assert_eq!(epochs, [0, 3]);
    let expected = [trained(&only(&["head"])), trained(&only(&["from:layer4"]))].concat();
    assert_eq!(trained(&settings), expected);
}

#[test]
fn groups_have_rates_of_their_own_and_the_first_that_matches_wins() {
    let groups = vec![
        group("layer4.2", 0.03, Some(0.5)),
        group("layer4.*", 0.02, None),
        // What it matches of layer4 is taken.
        group("{layer3,layer4}.*", 0.01, Some(0.0)),
    ];
    let phases = resolve(&FreezingSettings { groups, ..only(&["from:layer3"]) }).unwrap();
    let of = |name| phases[0].group_of(name).map(|group| (group.lr, group.weight_decay));
    assert_eq!(of("layer4.2.conv1.weight"), Some((0.03, 0.5)));
    assert_eq!(of("layer4.1.bn1.bias"), Some((0.02, 0.01)));
    assert_eq!(of("layer3.0.conv1.weight"), Some((0.01, 0.0)));
    assert_eq!(of("fc.weight"), Some((0.1, 0.01)));
    assert_eq!(of("layer2.0.conv1.weight"), None);
    let firsts: Vec<&str> = phases[0].groups.iter().map(|group| group.parameters[0].as_str()).collect();
    let forward = ["layer3.0.conv1.weight", "layer4.0.conv1.weight", "layer4.2.conv1.weight", "fc.weight"];
    assert_eq!(firsts, forward);
}

#[test]
fn parameters_with_equal_settings_are_one_group() {
    let groups = vec![group("layer3", 0.02, None), group("layer4", 0.02, Some(0.01)), group("fc", 0.1, None)];
    let phases = resolve(&FreezingSettings { groups, ..everything() }).unwrap();
    let sizes: Vec<usize> = phases[0].groups.iter().map(|group| group.parameters.len()).collect();
    assert_eq!(sizes, [161 - 57 - 30, 57 + 30]);
}

#[test]
fn a_group_may_be_trained_in_the_second_phase_alone() {
    let settings = FreezingSettings {
        groups: vec![group("layer4", 0.02, None)],
        unfreeze_at: unfreeze(1, &["full"]),
        ..only(&["head"])
    };
    let phases = resolve(&settings).unwrap();
    assert_eq!(phases[0].groups.len(), 1);
    assert_eq!(phases[1].group_of("layer4.0.conv1.weight").unwrap().lr, 0.02);
    assert_eq!(phases[1].group_of("layer3.0.conv1.weight").unwrap().lr, 0.1);
}

#[test]
fn weight_decay_spares_batch_norm_and_biases_where_asked_to() {
    let settings = FreezingSettings { decay_norm_and_bias: false, ..everything() };
    let settings = FreezingSettings { groups: vec![group("layer4", 0.1, Some(0.5))], ..settings };
    let phases = resolve(&settings).unwrap();
    for parameter in model::parameters(ModelName::Resnet50, 10) {
        let is_matrix = parameter.shape.len() > 1;
        let full = if parameter.name.starts_with("layer4.") { 0.5 } else { 0.01 };
        let expected = if is_matrix { full } else { 0.0 };
        assert_eq!(phases[0].group_of(&parameter.name).unwrap().weight_decay, expected, "{}", parameter.name);
    }
    assert_eq!(phases[0].groups.len(), 3);
}

#[test]
fn what_cannot_be_carried_out_is_told_with_the_key_and_a_way_out() {
    let frozen =
        |pattern| FreezingSettings { trainable: None, frozen: Some(texts(&[pattern])), ..everything() };
    let grouped = |groups| FreezingSettings { groups, ..only(&["layer4"]) };
    let unfreezing = |pattern| FreezingSettings { unfreeze_at: unfreeze(1, &[pattern]), ..only(&["head"]) };
    for (settings, message, hint) in [
        (
            only(&["layr4"]),
            "`layr4` of `train.trainable` matches no parameter of resnet50",
            "did you mean `layer4`?",
        ),
        (only(&["fc", "["]), "`[` of `train.trainable` is not a glob: unclosed", ""),
        (only(&["from:["]), "`from:[` of `train.trainable` is not a glob: unclosed", ""),
        (only(&[""]), "`` of `train.trainable` matches no parameter", "did you mean"),
        (
            only(&["layer4,fc"]),
            "`layer4,fc` of `train.trainable` matches no parameter",
            "several patterns are a list",
        ),
        (frozen("conv2"), "`conv2` of `train.frozen` matches no parameter", "did you mean `conv1`?"),
        (frozen("full"), "`train.frozen` leaves nothing to train", "train at least the head"),
        (
            unfreezing("layer9"),
            "`layer9` of `train.unfreeze_at` matches no parameter",
            "did you mean `layer4`?",
        ),
        (
            unfreezing("fc"),
            "`train.unfreeze_at` unfreezes nothing: `fc` is trained from the start",
            "train.trainable",
        ),
        (
            grouped(vec![group("layer7", 1.0, None)]),
            "`layer7` of `train.group` matches no parameter",
            "did you mean",
        ),
        (
            grouped(vec![group("fc", 1.0, None)]),
            "`fc` of `train.group` matches frozen parameters alone",
            "leave the group out",
        ),
        (
            grouped(vec![group("layer4", 1.0, None), group("layer4.2", 2.0, None)]),
            "`layer4.2` of `train.group` has no effect: groups before it take all that it matches",
            "the narrower patterns first",
        ),
    ] {
        let (found, found_hint) = refused(&settings);
        assert!(found.starts_with(message), "{found}");
        assert!(found_hint.contains(hint), "{found}: {found_hint}");
        let error = resolve(&settings).unwrap_err();
        assert!(found.contains(&format!("`{}`", error.key())), "{found}");
    }
}

#[test]
fn names_for_other_uses_come_from_the_same_patterns() {
    assert_eq!(
        matching(ModelName::Resnet18, "--trainable", &texts(&["head"])).unwrap(),
        ["fc.weight", "fc.bias"]
    );
    let error = matching(ModelName::Resnet18, "--trainable", &texts(&["layer4.2"])).unwrap_err();
    assert_eq!(error.to_string(), "`layer4.2` of `--trainable` matches no parameter of resnet18");
    assert_eq!(error.hint().unwrap(), "did you mean `layer4.1`?");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    /// Whatever the settings: groups are disjoint, know only the model's names, and a second phase only adds.
    #[test]
    fn phases_are_well_formed(
        model in 0_usize..5,
        patterns in proptest::collection::vec("(from:)?(layer[1-4](\\.[01])?|fc|stem|\\*\\.bias|\\*bn?\\.\\*|head)", 1..4),
        invert in any::<bool>(),
        unfrozen in proptest::option::of("(layer[1-4]|fc|full)"),
        grouped in proptest::collection::vec(("(layer[1-4]|fc|\\*\\.weight)", 1_u8..3), 0..3),
        spare in any::<bool>(),
    ) {
        let patterns = Some(patterns);
        let settings = FreezingSettings {
            model: ALL[model],
            trainable: patterns.clone().filter(|_| !invert),
            frozen: patterns.filter(|_| invert),
            unfreeze_at: unfrozen.map(|pattern| Unfreeze { epoch: 2, patterns: vec![pattern] }),
            groups: grouped.iter().map(|(pattern, lr)| group(pattern, f64::from(*lr), None)).collect(),
            decay_norm_and_bias: !spare,
            ..everything()
        };
        let Ok(phases) = resolve(&settings) else { return Ok(()) };
        let names = parameter_names(settings.model);
        for phase in &phases {
            let mut all: Vec<&str> = phase.parameters().collect();
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), count);
            prop_assert!(count > 0 && all.iter().all(|name| names.iter().any(|known| known == name)));
            for group in &phase.groups {
                let at = |name: &String| names.iter().position(|known| known == name);
                prop_assert!(group.parameters.is_sorted_by_key(at));
            }
        }
        if let [first, second] = &phases[..] {
            for name in first.parameters() {
                prop_assert_eq!(first.group_of(name).map(|group| (group.lr, group.weight_decay)),
                    second.group_of(name).map(|group| (group.lr, group.weight_decay)));
            }
        }
    }

    /// A wrong pattern never panics, and what is offered instead is right.
    #[test]
    fn any_text_is_a_pattern_or_a_clear_error(text in "[a-z0-9.*?\\[\\]{},!:\\\\-]{0,12}") {
        match resolve(&only(&[&text])) {
            Err(PatternError::Unmatched { near, .. }) => prop_assert!(resolve(&only(&[&near])).is_ok(), "{near}"),
            Err(PatternError::Glob { message, .. }) => prop_assert!(!message.is_empty()),
            Ok(_) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
