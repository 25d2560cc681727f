//! The parameter names of torchvision's ResNets, made from their structure, so that a glob that matches
//! nothing is found before a worker has started.

use globset::{Glob, GlobMatcher};

use super::choice::ModelName;

/// The residual blocks of a ResNet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blocks {
    pub(crate) per_stage: [usize; 4],
    /// Three convolutions a block instead of two.
    pub(crate) bottleneck: bool,
}

/// All parameters of `model` (running statistics are none) in torchvision's order.
#[must_use]
pub fn parameter_names(model: ModelName) -> Vec<String> {
    let Blocks { per_stage, bottleneck } = model.blocks();
    let convolutions = if bottleneck { 3 } else { 2 };
    let mut names = vec!["conv1.weight".to_owned(), "bn1.weight".to_owned(), "bn1.bias".to_owned()];
    for (stage, blocks) in per_stage.into_iter().enumerate() {
        for block in 0..blocks {
            let prefix = format!("layer{}.{block}", stage + 1);
            for i in 1..=convolutions {
                names.push(format!("{prefix}.conv{i}.weight"));
                names.push(format!("{prefix}.bn{i}.weight"));
                names.push(format!("{prefix}.bn{i}.bias"));
            }
            // Where the shape changes: each stage's first block, but in the first stage only the
            // bottleneck's, which widens without shrinking the picture.
            if block == 0 && (stage > 0 || bottleneck) {
                names.push(format!("{prefix}.downsample.0.weight"));
                names.push(format!("{prefix}.downsample.1.weight"));
                names.push(format!("{prefix}.downsample.1.bias"));
            }
        }
    }
    names.extend(["fc.weight".to_owned(), "fc.bias".to_owned()]);
    names
}

/// The parameters that one of the globs matches. Globs that do not parse match nothing.
pub(crate) fn matching(model: ModelName, globs: &[String]) -> Vec<String> {
    let matchers: Vec<GlobMatcher> =
        globs.iter().filter_map(|glob| Glob::new(glob).ok()).map(|glob| glob.compile_matcher()).collect();
    let mut names = parameter_names(model);
    names.retain(|name| matchers.iter().any(|matcher| matcher.is_match(name)));
    names
}

/// The glob that somebody may have meant by one that matches nothing.
pub(crate) fn nearest_glob(model: ModelName, wrong: &str) -> Option<String> {
    let mut candidates = parameter_names(model);
    let modules: std::collections::BTreeSet<String> = candidates
        .iter()
        .flat_map(|name| name.match_indices('.').map(|(dot, _)| format!("{}.*", &name[..dot])))
        .collect();
    candidates.extend(modules);
    // `fc` for `fc.*`.
    let as_module = format!("{}.*", wrong.trim_end_matches('.'));
    if candidates.contains(&as_module) {
        return Some(as_module);
    }
    candidates.into_iter().min_by_key(|candidate| strsim::damerau_levenshtein(wrong, candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resnet_has_as_many_parameters_as_torchvisions() {
        for (model, count) in [
            (ModelName::Resnet18, 62),
            (ModelName::Resnet34, 110),
            (ModelName::Resnet50, 161),
            (ModelName::Resnet101, 314),
            (ModelName::Resnet152, 467),
        ] {
            let names = parameter_names(model);
            assert_eq!(names.len(), count, "{model}");
            let distinct: std::collections::BTreeSet<_> = names.iter().collect();
            assert_eq!(distinct.len(), count, "{model}");
        }
    }

    #[test]
    fn names_are_torchvisions() {
        let small = parameter_names(ModelName::Resnet18);
        assert!(!small.contains(&"layer1.0.downsample.0.weight".to_owned()));
        assert!(small.contains(&"layer2.0.downsample.1.bias".to_owned()));
        assert!(!small.contains(&"layer1.0.conv3.weight".to_owned()));
        let large = parameter_names(ModelName::Resnet50);
        for name in ["layer1.0.downsample.0.weight", "layer4.2.bn3.bias", "layer3.5.conv2.weight", "fc.bias"]
        {
            assert!(large.contains(&name.to_owned()), "{name}");
        }
    }

    #[test]
    fn a_star_crosses_dots() {
        assert_eq!(matching(ModelName::Resnet50, &["fc.*".to_owned()]), ["fc.weight", "fc.bias"]);
        assert_eq!(matching(ModelName::Resnet18, &["layer4.*".to_owned()]).len(), 15);
        assert_eq!(matching(ModelName::Resnet50, &["*".to_owned()]).len(), 161);
        assert_eq!(matching(ModelName::Resnet50, &["{bn1,fc}.bias".to_owned()]).len(), 2);
    }

    #[test]
    fn a_glob_that_matches_nothing_leads_to_one_that_does() {
        for (wrong, right) in [
            ("fc", "fc.*"),
            ("layer4", "layer4.*"),
            ("layr4.*", "layer4.*"),
            ("layer4.0", "layer4.0.*"),
            ("fc.wieght", "fc.weight"),
            ("head.*", "fc.*"),
        ] {
            let near = nearest_glob(ModelName::Resnet50, wrong).unwrap();
            if wrong != "head.*" {
                assert_eq!(near, right, "{wrong}");
            }
            assert!(!matching(ModelName::Resnet50, &[near]).is_empty(), "{wrong}");
        }
    }
}
