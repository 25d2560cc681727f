//! What must hold between several keys of a recipe. Bounds of a single key are beside it in `read`.

use globset::Glob;

use super::choice::{DataName, SelectSplit};
use super::error::RecipeError;
use super::layer::{Layers, Origin};
use super::{Recipe, Validation, parameters};

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
    check.validation(recipe)?;
    check.trainable(recipe)
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
        let least = SHARD_SAMPLES_MIN * recipe.shards;
        if recipe.batch >= least {
            return Ok(());
        }
        let expected = format!("at least 2 times shards, {least}");
        let hint = "each shard needs two samples of every step for BatchNorm: fewer shards or a larger batch";
        Err(self.fail(&["batch", "shards"], expected, recipe.batch, Some(hint)))
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
        if data.name == DataName::Cifar10 {
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

    fn validation(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        let keys = ["data.validation", "select.split"];
        if recipe.select.split == SelectSplit::Val && recipe.data.validation == Validation::Count(0) {
            let hint = "data.validation = 0.1 holds every tenth training sample back";
            let expected = "above 0 with select.split = \"val\"".to_owned();
            return Err(self.fail(&keys, expected, 0, Some(hint)));
        }
        let cifar = recipe.data.name == DataName::Cifar10;
        let Some(train) = recipe.data.train.or_else(|| cifar.then_some(CIFAR_TRAIN)) else { return Ok(()) };
        let held_back = recipe.data.validation.samples(train);
        let least = SHARD_SAMPLES_MIN * recipe.shards;
        if train.saturating_sub(held_back) >= least {
            return Ok(());
        }
        let expected = format!("enough for one step: {least} samples beside {held_back} for validation");
        Err(self.fail(&["data.train", "data.validation", "shards"], expected, train, None))
    }

    fn trainable(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        let origin = || self.layers.origin("train.trainable");
        for pattern in &recipe.train.trainable {
            if let Err(error) = Glob::new(pattern) {
                let message = error.kind().to_string();
                return Err(RecipeError::Glob { pattern: pattern.clone(), message, origin: origin() });
            }
            let model = recipe.model.name;
            if !parameters::matching(model, std::slice::from_ref(pattern)).is_empty() {
                continue;
            }
            let hint = if pattern.contains(',') && !pattern.contains('{') {
                "several patterns are a list: [\"layer4.*\", \"fc.*\"]".to_owned()
            } else {
                let near = parameters::nearest_glob(model, pattern);
                // Every model has parameters, so there is always a nearest one.
                format!("did you mean `{}`?", near.unwrap_or_else(|| "*".to_owned()))
            };
            let (pattern, model) = (pattern.clone(), model.as_str());
            return Err(RecipeError::UnmatchedGlob { pattern, model, origin: origin(), hint });
        }
        Ok(())
    }
}
