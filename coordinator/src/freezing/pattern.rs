//! The ways to say which parameters: a glob, a module's name, or one of a few words.

use std::collections::BTreeSet;

use globset::{Glob, GlobMatcher};

/// A pattern on parameter names.
#[derive(Debug)]
pub(super) enum Pattern {
    /// What the glob matches, by its own name or by that of a module it is in: `layer4` is all below, `layer[34]` too.
    /// Stars cross dots.
    Glob(GlobMatcher),
    /// All of it: `full`.
    Full,
    /// `conv1` and `bn1`: `stem`. The part before layer1 has no name of its own in torchvision.
    Stem,
    /// From the first parameter that another pattern matches, in forward order, to the end: `from:layer3`.
    From(Box<Self>),
}

/// The words, each with a meaning that no parameter's name has.
const HEAD: &str = "head";
const FULL: &str = "full";
const STEM: &str = "stem";
const FROM: &str = "from:";

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, globset::Error> {
        if let Some(rest) = text.strip_prefix(FROM) {
            return Ok(Self::From(Box::new(Self::parse(rest)?)));
        }
        match text {
            FULL => Ok(Self::Full),
            STEM => Ok(Self::Stem),
            HEAD => Self::parse("fc"),
            glob => Ok(Self::Glob(Glob::new(glob)?.compile_matcher())),
        }
    }

    /// Which of `names`, all parameters in forward order, it matches.
    pub(super) fn matches(&self, names: &[String]) -> Vec<bool> {
        match self {
            Self::Glob(glob) => names
                .iter()
                .map(|name| glob.is_match(name) || modules_of(name).any(|module| glob.is_match(module)))
                .collect(),
            Self::Full => vec![true; names.len()],
            Self::Stem => {
                names.iter().map(|name| name.starts_with("conv1.") || name.starts_with("bn1.")).collect()
            }
            Self::From(first) => {
                let mut begun = false;
                let matched = first.matches(names).into_iter();
                matched
                    .map(|matched| {
                        begun |= matched;
                        begun
                    })
                    .collect()
            }
        }
    }
}

/// `layer1`, `layer1.0` and `layer1.0.conv1` of `layer1.0.conv1.weight`.
fn modules_of(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(dot, _)| &name[..dot])
}

/// The pattern that somebody may have meant by one that matches nothing; it matches something.
///
/// Of several at the same distance the last in forward order: what is trained is mostly at the end.
pub(super) fn nearest(names: &[String], wrong: &str) -> String {
    if let Some(rest) = wrong.strip_prefix(FROM) {
        return format!("{FROM}{}", nearest(names, rest));
    }
    let candidates = if wrong.contains(['*', '?', '[', '{']) { globs(names) } else { exact(names) };
    let far = |candidate: &String| strsim::damerau_levenshtein(wrong, candidate);
    candidates.into_iter().rev().min_by_key(far).unwrap_or_else(|| FULL.to_owned())
}

/// Names, modules and words.
fn exact(names: &[String]) -> Vec<String> {
    let words = [STEM, FULL, HEAD].map(str::to_owned);
    let mut seen = BTreeSet::new();
    let modules = names.iter().flat_map(|name| modules_of(name));
    let modules = modules.filter(|module| seen.insert(*module)).map(str::to_owned);
    names.iter().cloned().chain(words).chain(modules).collect()
}

/// `*.bias`, `*.conv2.weight` and the like, and all below each module.
fn globs(names: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let endings = names.iter().flat_map(|name| name.match_indices('.').map(|(dot, _)| &name[dot..]));
    let endings: Vec<String> =
        endings.filter(|ending| seen.insert(*ending)).map(|ending| format!("*{ending}")).collect();
    let below = exact(names).into_iter().filter(|name| names.iter().any(|other| in_module(other, name)));
    endings.into_iter().chain(below.map(|module| format!("{module}.*"))).collect()
}

fn in_module(name: &str, module: &str) -> bool {
    name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ALL, parameter_names};
    use crate::recipe::ModelName;

    fn matched(model: ModelName, pattern: &str) -> Vec<String> {
        let names = parameter_names(model);
        let matched = Pattern::parse(pattern).unwrap().matches(&names);
        names.into_iter().zip(matched).filter(|(_, matched)| *matched).map(|(name, _)| name).collect()
    }

    #[test]
    fn globs_cross_dots() {
        for (pattern, count) in [
            ("*", 161),
            ("fc.*", 2),
            ("layer4.*", 30),
            ("{bn1,fc}.bias", 2),
            ("*.bias", 54),
            ("layer4.2.conv3.weight", 1),
            ("layer?.0.bn1.weight", 4),
            ("layer[!4].0.downsample.1.bias", 3),
        ] {
            assert_eq!(matched(ModelName::Resnet50, pattern).len(), count, "{pattern}");
        }
    }

    #[test]
    fn a_modules_name_is_all_below_it_and_nothing_beside_it() {
        assert_eq!(matched(ModelName::Resnet50, "fc"), ["fc.weight", "fc.bias"]);
        assert_eq!(matched(ModelName::Resnet18, "layer4").len(), 15);
        assert_eq!(matched(ModelName::Resnet50, "layer4.0").len(), 12);
        // layer3.1, not layer3.10 to layer3.19.
        assert_eq!(matched(ModelName::Resnet101, "layer3.1").len(), 9);
        assert_eq!(matched(ModelName::Resnet50, "layer4.0.downsample.1").len(), 2);
        assert_eq!(matched(ModelName::Resnet50, "conv1"), ["conv1.weight"]);
        let both = [matched(ModelName::Resnet50, "layer3"), matched(ModelName::Resnet50, "layer4")].concat();
        assert_eq!(matched(ModelName::Resnet50, "layer[34]"), both);
        assert!(matched(ModelName::Resnet50, "layer").is_empty());
    }

    #[test]
    fn words_stand_for_parts() {
        for model in ALL {
            assert_eq!(matched(model, "head"), ["fc.weight", "fc.bias"]);
            assert_eq!(matched(model, "stem"), ["conv1.weight", "bn1.weight", "bn1.bias"]);
            assert_eq!(matched(model, "full"), parameter_names(model));
            assert_eq!(matched(model, "from:stem"), parameter_names(model));
            assert_eq!(matched(model, "from:fc"), matched(model, "head"));
            assert_eq!(matched(model, "from:layer3"), {
                let parts = ["layer3", "layer4", "fc"].map(|module| matched(model, module));
                parts.concat()
            });
            assert_eq!(matched(model, "from:layer4.1")[0], "layer4.1.conv1.weight");
            assert!(matched(model, "from:layer5").is_empty());
        }
    }

    #[test]
    fn a_pattern_that_matches_nothing_leads_to_one_that_does() {
        for (wrong, right) in [
            ("layr4", "layer4"),
            ("layr4.*", "layer4.*"),
            ("layer9.*", "layer4.*"),
            ("layer5", "layer4"),
            ("fc.wieght", "fc.weight"),
            ("FC", "fc"),
            ("fc1", "fc"),
            ("haed", "head"),
            ("all", "full"),
            ("head.*", "fc.*"),
            ("fc.weights", "fc.weight"),
            ("*.biases", "*.bias"),
            ("*.cnv2.weight", "*.conv2.weight"),
            ("from:layr3", "from:layer3"),
            ("from:", "from:fc"),
        ] {
            assert!(matched(ModelName::Resnet50, wrong).is_empty(), "{wrong}");
            let near = nearest(&parameter_names(ModelName::Resnet50), wrong);
            if wrong != "head.*" {
                assert_eq!(near, right, "{wrong}");
            }
            assert!(!matched(ModelName::Resnet50, &near).is_empty(), "{wrong} → {near}");
        }
    }
}
