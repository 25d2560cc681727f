//! What a model is evaluated on: the very samples of its run, or those of the data set that is asked for.

use std::io::Write as _;

use lockstep_core::History;

use super::{EvalArgs, SplitChoice, class_error};
use crate::cli::{CliError, code, inputs};
use crate::convert::{EVAL_BLOCK, SampleCounts};
use crate::data::{ResolvedData, SplitName};
use crate::home::Home;
use crate::infer::{self, Samples};
use crate::prepare;
use crate::recipe::{Loaded, Origin, Recipe, Sources};
use crate::trained::TrainedModel;

/// Samples of one split, with labels that are the model's.
#[derive(Debug)]
pub(super) struct EvalSamples {
    pub(super) data: ResolvedData,
    pub(super) split: SplitChoice,
    /// In the order of evaluation: rows of the data set file's tensors.
    pub(super) rows: Vec<usize>,
    /// The model's class of each.
    pub(super) labels: Vec<usize>,
    /// Samples of one evaluation block.
    pub(super) block: u32,
    /// Whether the model numbers its classes as the data set does.
    same_numbers: bool,
}

/// Of the keys that could be set, evaluation depends on these alone; any other would be ignored in silence.
pub(super) fn check_keys(sets: &[String]) -> Result<(), CliError> {
    let key = |set: &String| set.split('=').next().unwrap_or_default().trim().to_owned();
    match sets.iter().map(key).find(|key| !key.starts_with("data.") && key != "seed") {
        Some(key) => {
            Err(CliError::new(code::USAGE, format!("--set {key}: evaluation does not depend on it"))
                .hint("set data.* to evaluate on other data, or leave it out"))
        }
        None => Ok(()),
    }
}

impl EvalSamples {
    /// The samples of the run's own data, unless `args` say other ones. What they say of picture size and
    /// normalisation goes into `model`.
    pub(super) fn find(model: &mut TrainedModel, args: &EvalArgs, home: &Home) -> Result<Self, CliError> {
        let elsewhere = args.recipe.is_some() || !args.sets.is_empty();
        let (data, recipe, block) = match (&model.run, &model.recipe) {
            (Some(_), Some(recipe)) if !elsewhere => {
                let history = prepare::history(&home.journal()?, &model.name)?;
                (data_of_run(&history, recipe, home)?, recipe.clone(), history.spec.eval_block)
            }
            _ => {
                let recipe = recipe_asked_for(model, args)?;
                (inputs::resolve_data(&recipe, home)?, recipe, EVAL_BLOCK)
            }
        };
        let numbers = class_numbers(model, &data)?;
        let rows = rows(args.split, &recipe, &data)?;
        let stored = data.labels(stored_split(args.split))?;
        let labels: Option<Vec<usize>> =
            rows.iter().map(|row| numbers.get(*stored.get(*row)?).copied()).collect();
        // The data set's labels were checked when it was read, and rows are below its counts.
        let labels = labels
            .ok_or_else(|| CliError::new(code::DATA, "the data set's labels do not fit its classes"))?;
        let same_numbers = numbers.iter().copied().eq(0..numbers.len());
        Ok(Self { data, split: args.split, rows, labels, block, same_numbers })
    }

    /// For the worker. It is told the labels only if they are the model's.
    pub(super) fn job(&self) -> Samples {
        let split = self.stored_split();
        Samples {
            images: self.data.file.clone(),
            tensor: format!("{split}.images"),
            labels: self.same_numbers.then(|| format!("{split}.labels")),
            rows: Some(self.rows.clone()),
        }
    }

    /// The part of the data set file that the rows are of.
    pub(super) fn stored_split(&self) -> SplitName {
        stored_split(self.split)
    }
}

fn stored_split(split: SplitChoice) -> SplitName {
    match split {
        SplitChoice::Test => SplitName::Test,
        SplitChoice::Val | SplitChoice::Train => SplitName::Train,
    }
}

/// The bytes that the run began with, from the cache or made again.
fn data_of_run(history: &History, recipe: &Recipe, home: &Home) -> Result<ResolvedData, CliError> {
    let origin = &history.origin;
    let instead = "name the data to evaluate on with --set data.path=…";
    inputs::bring_back_data(origin, recipe, home, instead)?;
    let (train, test) = (origin.train_samples as usize, origin.test_samples as usize);
    Ok(ResolvedData::open(&origin.data_digest, &home.blobs, Some(train), Some(test))?)
}

/// The recipe that `args` ask for, on top of the model's own; a given file stands in its place. Pictures get the size
/// that the model was trained with, unless another one is asked for.
fn recipe_asked_for(model: &mut TrainedModel, args: &EvalArgs) -> Result<Recipe, CliError> {
    let mut own = None;
    let file = match (&args.recipe, &model.recipe) {
        (Some(file), _) => Some(file.clone()),
        (None, Some(recipe)) => {
            let recipe = without_place(recipe.clone(), &args.sets);
            Some(own.insert(written(&recipe)?).path().to_owned())
        }
        (None, None) => None,
    };
    if file.is_none() && args.sets.is_empty() {
        return Err(CliError::new(
            code::USAGE,
            format!("{} does not say what to evaluate it on", model.name),
        )
        .hint(
            "name the data, e.g. --set data.name=cifar10, or --set data.name=folder --set data.path=pictures",
        ));
    }
    // A model's own recipe is complete: what the environment says is for new ones.
    let env = if own.is_some() { Default::default() } else { Sources::process_env() };
    let mut sources = Sources { file, sets: args.sets.clone(), env, default_shards: 1 };
    let mut loaded = Recipe::load(&sources)?;
    let is_own = own.is_some();
    let is_asked = |loaded: &Loaded, key: &str| match loaded.origins.get(key) {
        None | Some(Origin::Default) => false,
        Some(Origin::File { .. }) => !is_own,
        Some(_) => true,
    };
    if is_asked(&loaded, "data.normalize") {
        (model.mean, model.std) = loaded.recipe.data.normalize.mean_std();
    }
    if is_asked(&loaded, "data.image_size") {
        model.image_size = loaded.recipe.data.image_size;
    } else if loaded.recipe.data.image_size != model.image_size {
        sources.sets.push(format!("data.image_size={}", model.image_size));
        loaded = Recipe::load(&sources)?;
    }
    Ok(loaded.recipe)
}

/// A recipe for other data says nothing of where the data was and how much of it was used.
fn without_place(mut recipe: Recipe, sets: &[String]) -> Recipe {
    let places = ["data.name", "data.path"];
    if sets.iter().any(|set| places.contains(&set.split('=').next().unwrap_or_default().trim())) {
        (recipe.data.path, recipe.data.train, recipe.data.test) = (None, None, None);
    }
    recipe
}

/// A file to load the recipe from, which goes with its handle.
fn written(recipe: &Recipe) -> Result<tempfile::NamedTempFile, CliError> {
    let written = tempfile::Builder::new().suffix(".toml").tempfile().and_then(|mut file| {
        file.write_all(recipe.to_toml().as_bytes())?;
        Ok(file)
    });
    written.map_err(|error| anyhow::Error::from(error).context("writing the model's recipe aside").into())
}

fn rows(split: SplitChoice, recipe: &Recipe, data: &ResolvedData) -> Result<Vec<usize>, CliError> {
    if split == SplitChoice::Test {
        return some(
            (0..data.test).collect(),
            "the data set has no test samples",
            "choose --split val or train",
        );
    }
    let SampleCounts { train, validation, .. } = inputs::sample_counts(recipe, data)?;
    let (trained_on, held_out) = infer::split(recipe.seed, train, validation);
    match split {
        SplitChoice::Val => {
            some(held_out, "no samples are held out for validation", "choose --split test or train")
        }
        _ => Ok(trained_on),
    }
}

fn some(rows: Vec<usize>, message: &str, hint: &str) -> Result<Vec<usize>, CliError> {
    if rows.is_empty() { Err(CliError::new(code::USAGE, message).hint(hint)) } else { Ok(rows) }
}

/// The model's class of each of the data set's. Names decide; a model that only numbers its classes gets the data set's
/// names.
fn class_numbers(model: &mut TrainedModel, data: &ResolvedData) -> Result<Vec<usize>, CliError> {
    let numbered = model.classes.iter().enumerate().all(|(label, name)| *name == label.to_string());
    if numbered && model.classes.len() == data.classes.len() {
        model.classes.clone_from(&data.classes);
    }
    let number = |name: &String| model.classes.iter().position(|class| class == name);
    let numbers: Vec<Option<usize>> = data.classes.iter().map(number).collect();
    if let Some(numbers) = numbers.iter().copied().collect() {
        return Ok(numbers);
    }
    let (knows, has) = (model.classes.len(), data.classes.len());
    if numbered {
        return Err(class_error(format!(
            "the model tells {knows} classes apart, and the data set has {has}"
        )));
    }
    let unknown: Vec<&str> =
        data.classes.iter().zip(&numbers).filter(|it| it.1.is_none()).map(|it| it.0.as_str()).collect();
    let shown = unknown.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    let more = if unknown.len() > 5 { ", …" } else { "" };
    Err(class_error(format!(
        "the model does not know {} of the data set's {has} classes: {shown}{more}",
        unknown.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataName;
    use crate::recipe::ModelName;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn model(classes: &[&str]) -> TrainedModel {
        TrainedModel {
            name: "m".to_owned(),
            model: ModelName::Resnet18,
            classes: names(classes),
            image_size: 224,
            mean: [0.0; 3],
            std: [1.0; 3],
            weights: "w".into(),
            run: None,
            recipe: None,
            metrics: serde_json::Value::Null,
            origin: crate::trained::Origin::default(),
            notes: Vec::new(),
        }
    }

    fn data(classes: &[&str]) -> ResolvedData {
        ResolvedData {
            digest: String::new(),
            file: "f".into(),
            name: DataName::Shapes,
            classes: names(classes),
            image_size: 32,
            train: 10,
            test: 4,
            notes: Vec::new(),
        }
    }

    #[test]
    fn classes_are_matched_by_name_and_numbered_ones_get_the_data_sets_names() {
        let numbers = |model: &mut TrainedModel, classes: &[&str]| class_numbers(model, &data(classes));
        assert_eq!(numbers(&mut model(&["cat", "dog", "fish"]), &["fish", "cat"]).unwrap(), [2, 0]);
        let mut numbered = model(&["0", "1"]);
        assert_eq!(numbers(&mut numbered, &["cat", "dog"]).unwrap(), [0, 1]);
        assert_eq!(numbered.classes, ["cat", "dog"]);
        let error = numbers(&mut model(&["0", "1", "2"]), &["cat", "dog"]).unwrap_err();
        assert_eq!(error.message, "the model tells 3 classes apart, and the data set has 2");
        let error = numbers(&mut model(&["cat", "dog"]), &["cat", "cow", "hen"]).unwrap_err();
        assert_eq!(error.message, "the model does not know 2 of the data set's 3 classes: cow, hen");
        assert!(error.hint.is_some());
    }

    #[test]
    fn keys_that_would_change_nothing_are_refused() {
        assert!(check_keys(&["data.name=shapes".to_owned(), "seed = 3".to_owned()]).is_ok());
        let error = check_keys(&["data.name=shapes".to_owned(), "batch=3".to_owned()]).unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (2, "--set batch: evaluation does not depend on it")
        );
    }

    #[test]
    fn the_splits_of_a_data_set_share_no_sample() {
        let sets = ["data.name=shapes", "data.validation=3"].map(str::to_owned).to_vec();
        let recipe = Recipe::load(&Sources { sets, default_shards: 1, ..Sources::default() }).unwrap().recipe;
        let data = data(&["a"]);
        let of = |split| rows(split, &recipe, &data).unwrap();
        let (train, validation) = (of(SplitChoice::Train), of(SplitChoice::Val));
        assert_eq!((train.len(), validation.len(), of(SplitChoice::Test)), (7, 3, vec![0, 1, 2, 3]));
        let mut all = [train, validation].concat();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        let none = ResolvedData { test: 0, ..data };
        assert_eq!(rows(SplitChoice::Test, &recipe, &none).unwrap_err().code, 2);
    }
}
