//! `lockstep summary`: a network's layers, output shapes and parameters, and how many of them a recipe would train.

use std::ops::RangeInclusive;

use clap::Args;

use super::sources::SourceArgs;
use super::stdout::print;
use super::{CliError, code};
use crate::freezing::{self, PatternError};
use crate::model::{self, Summary, grouped};
use crate::nearest::nearest;
use crate::recipe::{DataName, ModelName, Recipe, parameter_names};

/// Any network has a head of one class at least; above, a slip of the finger.
const CLASSES: RangeInclusive<u64> = 1..=1_000_000;
/// Pixels per side. A single one still comes through as one; above, no device would hold the outputs.
const IMAGE_SIZES: RangeInclusive<u64> = 1..=8192;

/// Where there is no recipe: those of its defaults and of CIFAR-10.
const DEFAULT_IMAGE_SIZE: u32 = 32;
const DEFAULT_CLASSES: u32 = 10;

#[derive(Debug, Args)]
pub(super) struct SummaryArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// resnet18, resnet34, resnet50, resnet101 or resnet152 [default: the recipe's, else resnet50]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Outputs of the last layer [default: those of the recipe's data, else 10]
    #[arg(long, value_name = "N")]
    classes: Option<u64>,
    /// Pixels per side of a picture [default: the recipe's, else 32]
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<u64>,
    /// What is trained: a glob on parameter names, a module, head, full or from:MODULE; may be repeated [default: the
    /// recipe's, else everything]
    #[arg(long, value_name = "PATTERN", conflicts_with = "frozen")]
    trainable: Vec<String>,
    /// What is frozen, everything else being trained; may be repeated
    #[arg(long, value_name = "PATTERN")]
    frozen: Vec<String>,
    /// For programs: with torchvision's name of every layer and exact counts
    #[arg(long)]
    json: bool,
}

/// Prints the table to stdout.
///
/// # Errors
///
/// A wrong recipe or argument.
pub(super) fn run(args: SummaryArgs) -> Result<(), CliError> {
    let json = args.json;
    let summary = summary(args)?;
    if json {
        let text = serde_json::to_string_pretty(&summary).map_err(anyhow::Error::from)?;
        return print(&(text + "\n"));
    }
    let counted = summary.table_trainable_params();
    if counted != summary.trainable_params {
        eprintln!(
            "note: the table counts a bias with its weight, as torchsummary does; {} parameters are trained, not {}",
            grouped(summary.trainable_params),
            grouped(counted)
        );
    }
    print(&summary.text())
}

fn summary(args: SummaryArgs) -> Result<Summary, CliError> {
    let recipe = if args.source.recipe.is_some() || !args.source.sets.is_empty() {
        // Shards have no part in this: one is always right.
        Some(Recipe::load(&args.source.sources(1))?.recipe)
    } else {
        None
    };
    let recipe = recipe.as_ref();
    let model = match args.model {
        Some(name) => model_of(&name)?,
        None => recipe.map_or(ModelName::Resnet50, |recipe| recipe.model.name),
    };
    let classes = match args.classes {
        Some(classes) => {
            within("--classes", classes, CLASSES, "the number of classes of your data, for example 10")?
        }
        None => recipe.map_or(Ok(DEFAULT_CLASSES), classes_of)?,
    };
    let image_size = match args.image_size {
        Some(size) => within("--image-size", size, IMAGE_SIZES, "pixels per side, for example 32 or 224")?,
        None => recipe.map_or(DEFAULT_IMAGE_SIZE, |recipe| recipe.data.image_size),
    };
    let trainable = match (&args.trainable[..], &args.frozen[..], recipe) {
        ([], [], None) => parameter_names(model),
        ([], [], Some(recipe)) => of_recipe(recipe, model)?,
        ([], frozen, _) => without(model, "--frozen", frozen)?,
        (trainable, ..) => freezing::matching(model, "--trainable", trainable)?,
    };
    Ok(Summary::new(model, classes, image_size, &trainable))
}

/// What the recipe trains at first; its patterns may miss in another model than its own.
fn of_recipe(recipe: &Recipe, model: ModelName) -> Result<Vec<String>, PatternError> {
    match (&recipe.train.trainable, &recipe.train.frozen) {
        (Some(trainable), _) => freezing::matching(model, "train.trainable", trainable),
        (None, Some(frozen)) => without(model, "train.frozen", frozen),
        (None, None) => Ok(parameter_names(model)),
    }
}

fn without(model: ModelName, key: &'static str, frozen: &[String]) -> Result<Vec<String>, PatternError> {
    let frozen = freezing::matching(model, key, frozen)?;
    let mut names = parameter_names(model);
    names.retain(|name| !frozen.contains(name));
    Ok(names)
}

fn model_of(name: &str) -> Result<ModelName, CliError> {
    model::by_name(name).ok_or_else(|| {
        let all = model::ALL.map(ModelName::as_str);
        let listed = all.join(", ");
        let hint = match nearest(&name.to_lowercase(), all) {
            Some(near) => format!("did you mean `{near}`? All are {listed}"),
            None => format!("all are {listed}"),
        };
        CliError::new(code::USAGE, format!("there is no model `{name}`")).hint(hint)
    })
}

fn classes_of(recipe: &Recipe) -> Result<u32, CliError> {
    match recipe.data.name {
        DataName::Cifar10 | DataName::Shapes => Ok(10),
        DataName::Cifar100 => Ok(100),
        DataName::Folder => Err(CliError::new(
            code::USAGE,
            "how many classes a folder of pictures has is known when it is read",
        )
        .hint("say it with --classes N")),
    }
}

fn within(flag: &str, number: u64, range: RangeInclusive<u64>, hint: &str) -> Result<u32, CliError> {
    let small = u32::try_from(number).ok().filter(|_| range.contains(&number));
    small.ok_or_else(|| {
        let (least, most) = (range.start(), grouped(*range.end()));
        CliError::new(code::USAGE, format!("{flag} must be from {least} to {most}, but is {number}"))
            .hint(hint)
    })
}

impl From<PatternError> for CliError {
    fn from(error: PatternError) -> Self {
        Self { message: error.to_string(), hint: error.hint(), code: code::USAGE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        summary: SummaryArgs,
    }

    fn summarised(line: &str) -> Result<Summary, CliError> {
        let program = Program::try_parse_from(std::iter::once("summary").chain(line.split_whitespace()));
        summary(program.unwrap().summary)
    }

    fn trained(line: &str) -> u64 {
        summarised(line).unwrap().trainable_params
    }

    #[test]
    fn flags_say_what_is_summarised() {
        let summary = summarised("--model resnet18 --classes 1000 --image-size 224").unwrap();
        assert_eq!((summary.model, summary.params), ("resnet18", 11_689_512));
        assert_eq!((summary.image_size, summary.trainable_params), (224, 11_689_512));
        let default = summarised("").unwrap();
        assert_eq!((default.model, default.classes, default.image_size), ("resnet50", 10, 32));
    }

    #[test]
    fn what_is_trained_is_said_by_patterns() {
        assert_eq!(trained("--trainable fc"), 20_490);
        assert_eq!(trained("--trainable head"), 20_490);
        assert_eq!(trained("--trainable layer4.* --trainable fc.*"), trained("--trainable from:layer4"));
        assert_eq!(trained("--frozen stem --frozen layer[123]"), trained("--trainable from:layer4"));
        assert_eq!(trained("--frozen full"), 0);
    }

    #[test]
    fn a_recipe_says_what_no_flag_does() {
        let recipe = "--set data.name=cifar100 --set model.name=resnet34 --set data.image_size=64 --set train.trainable=head";
        let summary = summarised(recipe).unwrap();
        assert_eq!((summary.model, summary.classes, summary.image_size), ("resnet34", 100, 64));
        assert_eq!(summary.trainable_params, 512 * 100 + 100);
        let flags =
            summarised(&format!("{recipe} --model resnet18 --classes 7 --frozen from:layer2")).unwrap();
        assert_eq!((flags.model, flags.classes, flags.image_size), ("resnet18", 7, 64));
        assert_eq!(flags.trainable_params, 64 * 3 * 49 + 2 * 64 + 4 * (64 * 64 * 9 + 2 * 64));
        let frozen = summarised("--set data.name=shapes --set train.frozen=from:layer1").unwrap();
        assert_eq!((frozen.classes, frozen.trainable_params), (10, 64 * 3 * 49 + 2 * 64));
    }

    #[test]
    fn bad_input_ends_with_exit_code_2_and_a_hint() {
        for (line, message, hint) in [
            ("--model resnet5", "there is no model `resnet5`", "did you mean `resnet50`?"),
            ("--model ResNet101", "there is no model `ResNet101`", "did you mean `resnet101`?"),
            ("--model vgg16", "there is no model `vgg16`", "resnet18, resnet34"),
            ("--image-size 0", "--image-size must be from 1 to 8,192, but is 0", "pixels per side"),
            ("--image-size 8193", "--image-size must be from 1 to 8,192, but is 8193", "pixels per side"),
            ("--image-size 4294967328", "--image-size must be from 1 to 8,192", "pixels per side"),
            ("--classes 0", "--classes must be from 1 to 1,000,000, but is 0", "the number of classes"),
            (
                "--trainable layr4",
                "`layr4` of `--trainable` matches no parameter of resnet50",
                "did you mean `layer4`?",
            ),
            ("--frozen [", "`[` of `--frozen` is not a glob", ""),
            (
                "--set data.name=folder --set data.path=p",
                "how many classes a folder of pictures has",
                "--classes N",
            ),
            ("--set data.name=cifr10", "`data.name` must be", "did you mean"),
            (
                "--set data.name=shapes --set train.trainable=layer4.2 --model resnet18",
                "`layer4.2` of `train.trainable` matches no parameter of resnet18",
                "did you mean `layer4.1`?",
            ),
        ] {
            let error = summarised(line).unwrap_err();
            assert_eq!(error.code, 2, "{line}");
            assert!(error.message.starts_with(message), "{line}: {error}");
            assert!(error.hint.unwrap_or_default().contains(hint), "{line}");
        }
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for line in
            ["--image-size -1", "--classes many", "--trainable fc --frozen stem", "--image-size 32x32"]
        {
            let arguments = std::iter::once("summary").chain(line.split(' '));
            assert!(Program::try_parse_from(arguments).is_err(), "{line}");
        }
    }
}
