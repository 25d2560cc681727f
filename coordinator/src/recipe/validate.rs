//! What must hold between several keys of a recipe. Bounds of a single key are beside it in `read`.

use super::choice::{DataName, ModelName, SelectSplit};
use super::error::RecipeError;
use super::layer::{Layers, Origin};
use super::{Recipe, Validation, Weights};
use crate::freezing;

/// BatchNorm has no variance over one sample.
const SHARD_SAMPLES_MIN: u32 = 2;

/// How many samples the published set has.
const CIFAR_TRAIN: u32 = 50_000;
const CIFAR_TEST: u32 = 10_000;

pub(crate) fn across_keys(recipe: &Recipe, layers: &Layers) -> Result<(), RecipeError> {
    let check = Check { layers };
    check.batch(recipe)?;
    check.nesterov(recipe)?;
    check.data(recipe)?;
    check.augment(recipe)?;
    check.weights(recipe)?;
    check.validation(recipe)?;
    check.warmup(recipe)?;
    check.freezing(recipe)
}

/// CIFAR-100 has as many samples as CIFAR-10.
fn is_cifar(name: DataName) -> bool {
    matches!(name, DataName::Cifar10 | DataName::Cifar100)
}

struct Check<'a> {
    layers: &'a Layers,
}

impl Check<'_> {
    /// Blames the first of `keys` that somebody wrote, and says the rule about `keys[0]`.
    fn fail(&self, keys: &[&str], expected: String, found: impl ToString, hint: Option<&str>) -> RecipeError {
        let origin = keys
            .iter()
            .map(|key| self.layers.origin(key))
            .find(|origin| *origin != Origin::Default)
            .unwrap_or(Origin::Default);
        RecipeError::Invalid {
            key: keys[0].to_owned(),
            expected,
            found: found.to_string(),
            origin: Box::new(origin),
            hint: hint.map(str::to_owned),
        }
    }

    fn batch(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        let parts = u64::from(recipe.shards) * u64::from(recipe.train.accumulate);
        let least = u64::from(SHARD_SAMPLES_MIN) * parts;
        if u64::from(recipe.batch) >= least {
            return Ok(());
        }
        let (times, hint) = match recipe.train.accumulate {
            1 => (
                "shards",
                "each shard needs two samples of every step for BatchNorm: fewer shards or a larger batch",
            ),
            _ => (
                "shards times train.accumulate",
                "each part of a shard needs two samples for BatchNorm: fewer parts or a larger batch",
            ),
        };
        let expected = format!("at least 2 times {times}, {least}");
        Err(self.fail(&["batch", "train.accumulate", "shards"], expected, recipe.batch, Some(hint)))
    }

    fn nesterov(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        let optimizer = &recipe.optimizer;
        if !optimizer.nesterov || optimizer.momentum > 0.0 {
            return Ok(());
        }
        let expected = "above 0 with optimizer.nesterov = true".to_owned();
        Err(self.fail(&["optimizer.momentum", "optimizer.nesterov"], expected, optimizer.momentum, None))
    }

    fn data(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        let data = &recipe.data;
        if data.name == DataName::Folder && data.path.is_none() {
            let expected = "the folder of pictures with data.name = \"folder\"".to_owned();
            let hint = "for example data.path = \"pictures\", with pictures/train/CLASS/*.jpg in it";
            return Err(self.fail(&["data.path", "data.name"], expected, "absent", Some(hint)));
        }
        if is_cifar(data.name) {
            for (key, asked, most) in
                [("data.train", data.train, CIFAR_TRAIN), ("data.test", data.test, CIFAR_TEST)]
            {
                if let Some(asked) = asked.filter(|asked| *asked > most) {
                    let expected = format!("at most {most}, all that {} has", data.name);
                    return Err(self.fail(&[key], expected, asked, None));
                }
            }
        }
        Ok(())
    }

    fn augment(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        let augment = &recipe.augment;
        if augment.crop_padding >= recipe.data.image_size {
            let expected = format!("below data.image_size, {}", recipe.data.image_size);
            let keys = ["augment.crop_padding", "data.image_size"];
            return Err(self.fail(&keys, expected, augment.crop_padding, None));
        }
        if augment.crop_padding == 0 || augment.resized_crop >= 1.0 {
            return Ok(());
        }
        let expected = "1 (off) with augment.crop_padding".to_owned();
        let hint = "both crop at random: use one of them";
        let keys = ["augment.resized_crop", "augment.crop_padding"];
        Err(self.fail(&keys, expected, augment.resized_crop, Some(hint)))
    }

    fn weights(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        let small = matches!(recipe.model.name, ModelName::Resnet18 | ModelName::Resnet34);
        if recipe.model.weights != Weights::Imagenet1kV2 || !small {
            return Ok(());
        }
        let expected = format!("\"imagenet1k-v1\" with {}", recipe.model.name);
        let hint = "torchvision has V2 weights of resnet50, resnet101 and resnet152 only";
        Err(self.fail(&["model.weights", "model.name"], expected, "\"imagenet1k-v2\"", Some(hint)))
    }

    fn warmup(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        let warmup = recipe.schedule.warmup_epochs;
        if warmup < recipe.epochs {
            return Ok(());
        }
        let expected = format!("below epochs, {}", recipe.epochs);
        Err(self.fail(&["schedule.warmup_epochs", "epochs"], expected, warmup, None))
    }

    fn validation(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        let keys = ["data.validation", "select.split"];
        if recipe.select.split == SelectSplit::Val && recipe.data.validation == Validation::Count(0) {
            let hint = "data.validation = 0.1 holds every tenth training sample back";
            let expected = "above 0 with select.split = \"val\"".to_owned();
            return Err(self.fail(&keys, expected, 0, Some(hint)));
        }
        let cifar = is_cifar(recipe.data.name);
        let Some(train) = recipe.data.train.or_else(|| cifar.then_some(CIFAR_TRAIN)) else { return Ok(()) };
        let held_back = recipe.data.validation.samples(train);
        let least = SHARD_SAMPLES_MIN * recipe.shards;
        if train.saturating_sub(held_back) >= least {
            return Ok(());
        }
        let expected = format!("enough for one step: {least} samples beside {held_back} for validation");
        Err(self.fail(&["data.train", "data.validation", "shards"], expected, train, None))
    }

    fn freezing(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        let Err(error) = freezing::resolve(&recipe.into()) else { return Ok(()) };
        Err(RecipeError::Pattern { origin: self.layers.origin(error.key()), error })
    }
}
