//! Torchvision's own weights: which files there are, and where they come from.

use crate::download::{Checksum, Source};
use crate::recipe::ModelName;

/// Another base address for all files, for mirrors and tests.
const URL_VARIABLE: &str = "LOCKSTEP_WEIGHTS_URL";
const URL: &str = "https://download.pytorch.org/models";

/// The second of the two recipes that torchvision's weights were trained by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recipe {
    V1,
    V2,
}

/// The file's name, as torchvision 0.26 has it: the digits are the beginning of its sha256. There is no second
/// recipe of the two small ones.
pub(super) fn file_name(model: ModelName, recipe: Recipe) -> Option<&'static str> {
    Some(match (model, recipe) {
        (ModelName::Resnet18, Recipe::V1) => "resnet18-f37072fd.pth",
        (ModelName::Resnet34, Recipe::V1) => "resnet34-b627a593.pth",
        (ModelName::Resnet50, Recipe::V1) => "resnet50-0676ba61.pth",
        (ModelName::Resnet50, Recipe::V2) => "resnet50-11ad3fa6.pth",
        (ModelName::Resnet101, Recipe::V1) => "resnet101-63fe2227.pth",
        (ModelName::Resnet101, Recipe::V2) => "resnet101-cd907fc2.pth",
        (ModelName::Resnet152, Recipe::V1) => "resnet152-394f9c45.pth",
        (ModelName::Resnet152, Recipe::V2) => "resnet152-f82ba261.pth",
        (ModelName::Resnet18 | ModelName::Resnet34, Recipe::V2) => return None,
    })
}

/// PyTorch's address, or what `LOCKSTEP_WEIGHTS_URL` says instead.
pub(super) fn base_url() -> String {
    let instead = std::env::var(URL_VARIABLE).ok().filter(|url| !url.is_empty());
    instead.unwrap_or_else(|| URL.to_owned())
}

pub(super) fn source(base_url: &str, file_name: &str) -> Source {
    let digits = file_name.rsplit_once('-').and_then(|(_, rest)| rest.split('.').next());
    Source {
        url: format!("{}/{file_name}", base_url.trim_end_matches('/')),
        checksum: Checksum::Sha256Prefix(digits.unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_checked_by_the_digits_in_its_name() {
        let source = source("http://mirror/models/", "resnet50-0676ba61.pth");
        assert_eq!(source.url, "http://mirror/models/resnet50-0676ba61.pth");
        assert_eq!(source.checksum, Checksum::Sha256Prefix("0676ba61".to_owned()));
    }

    #[test]
    fn every_file_carries_its_model_and_eight_digits() {
        let models = [
            ModelName::Resnet18,
            ModelName::Resnet34,
            ModelName::Resnet50,
            ModelName::Resnet101,
            ModelName::Resnet152,
        ];
        let mut files = 0;
        for model in models {
            for recipe in [Recipe::V1, Recipe::V2] {
                let Some(name) = file_name(model, recipe) else { continue };
                let digits = name.strip_prefix(&format!("{model}-")).unwrap().strip_suffix(".pth").unwrap();
                assert!(digits.len() == 8 && hex::decode(digits).is_ok(), "{name}");
                files += 1;
            }
        }
        assert_eq!(files, 8);
    }
}
