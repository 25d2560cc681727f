//! What the user is promised about recipes: precedence, places, nearest keys, bounds, and a text that
//! reads back as the same recipe.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

mod round_trip;
mod values;

const SHORT: &str = "[data]\nname = \"cifar10\"\n";

/// What a recipe that only names its data resolves to.
const DEFAULTS: &str = "seed = 7
batch = 200
shards = 2
epochs = 100
precision = \"fp32\"
threads = 1
exact = true
max_restarts = 3
lease_ms = 3000

[data]
name = \"cifar10\"
image_size = 32
test_fraction = 0.2
validation = 0.1
normalize = \"half\"
skip_broken = false

[augment]
crop_padding = 0
resized_crop = 1.0
flip = 0.0
brightness = 0.0
contrast = 0.0
saturation = 0.0
hue = 0.0
erasing = 0.0
mixup = 0.0
cutmix = 0.0

[model]
name = \"resnet50\"
weights = \"none\"

[train]
trainable = [\"*\"]
frozen_batch_norm = \"eval\"
label_smoothing = 0.0
accumulate = 1
clip_norm = 0.0
ema_decay = 0.0

[optimizer]
name = \"sgd\"
lr = 0.001
momentum = 0.9
weight_decay = 0.0
nesterov = false
beta1 = 0.9
beta2 = 0.999
eps = 0.00000001
decay_norm_and_bias = true

[schedule]
name = \"cosine\"
per = \"epoch\"
t_max = 200
step_size = 30
gamma = 0.1
warmup_epochs = 0
warmup_start = 0.01
pct_start = 0.3
div_factor = 25.0
final_div_factor = 10000.0

[select]
split = \"val\"
metric = \"acc_top1\"
restore = \"never\"
patience = 0

[checkpoint]
every_steps = 0
keep = 3

[cache]
prefix = \"auto\"
";

fn loaded(text: &str, sets: &[&str], env: &[(&str, &str)]) -> Result<Loaded, RecipeError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my.toml");
    std::fs::write(&file, text).unwrap();
    Recipe::load(&Sources {
        file: Some(file),
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        default_shards: 2,
    })
}

/// The error's text without the folder of the file, and its hint.
fn refused(text: &str, sets: &[&str], env: &[(&str, &str)]) -> (String, String) {
    let error = loaded(text, sets, env).unwrap_err();
    let message = error.to_string();
    let message = match (message.find("in /"), message.find("/my.toml")) {
        (Some(start), Some(end)) => format!("{}{}", &message[..start + 3], &message[end + 1..]),
        _ => message,
    };
    (message, error.hint().unwrap_or_default())
}

#[test]
fn what_is_left_out_gets_the_documented_default() {
    let Loaded { recipe, origins, .. } = loaded(SHORT, &[], &[]).unwrap();
    assert_eq!(recipe.to_toml(), DEFAULTS);
    assert_eq!(origins["seed"], Origin::Default);
    assert!(!origins.contains_key("data.path"), "a key without a value comes from nowhere");
    assert!(matches!(&origins["data.name"], Origin::File { line: 2, .. }));
}

#[test]
fn validation_is_empty_by_default_when_the_test_split_selects() {
    let recipe = loaded(SHORT, &["select.split=test"], &[]).unwrap().recipe;
    assert_eq!(recipe.data.validation, Validation::Count(0));
    assert_eq!(Validation::Fraction(0.1).samples(50_000), 5_000);
    assert_eq!(Validation::Fraction(0.001).samples(10), 1);
    assert_eq!(Validation::Count(0).samples(10), 0);
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let text = "epochs = 1\nseed = 1\nbatch = 10\n[data]\nname = \"cifar10\"\n";
    let env = [("LOCKSTEP_EPOCHS", "2"), ("LOCKSTEP_SEED", "2"), ("LOCKSTEP_OPTIMIZER__LR", "0.5")];
    let Loaded { recipe, origins, .. } = loaded(text, &["epochs=3"], &env).unwrap();
    assert_eq!((recipe.epochs, recipe.seed, recipe.batch, recipe.threads), (3, 2, 10, 1));
    assert_eq!(recipe.optimizer.lr, 0.5);
    for (key, brief) in [
        ("epochs", "--set"),
        ("seed", "LOCKSTEP_SEED"),
        ("batch", "file line 3"),
        ("threads", "default"),
        ("optimizer.lr", "LOCKSTEP_OPTIMIZER__LR"),
    ] {
        assert_eq!(origins[key].brief(), brief, "{key}");
    }
}

#[test]
fn the_last_of_two_flags_wins() {
    assert_eq!(loaded(SHORT, &["epochs=3", "epochs=4"], &[]).unwrap().recipe.epochs, 4);
}

#[test]
fn other_variables_of_the_program_are_no_recipe_keys() {
    let env = [
        "LOCKSTEP_LOG",
        "LOCKSTEP_HOME",
        "LOCKSTEP_WORKER",
        "LOCKSTEP_CIFAR10_URL",
        "LOCKSTEP_CIFAR10_MD5",
        "LOCKSTEP_COORDINATOR",
        "LOCKSTEP_DATA",
    ]
    .map(|name| (name, "x"));
    assert_eq!(loaded(SHORT, &[], &env).unwrap().recipe, loaded(SHORT, &[], &[]).unwrap().recipe);
}

#[test]
fn flags_and_variables_take_toml_values_or_bare_text() {
    let sets = [
        "data.path=/x",
        "train.trainable=[\"fc.*\", \"layer4.*\"]",
        "model.weights=\"/w.safetensors\"",
        "optimizer.lr=1",
        "seed = 0x10",
        "data.validation=500",
    ];
    let recipe = loaded(SHORT, &sets, &[("LOCKSTEP_SELECT__RESTORE", "end")]).unwrap().recipe;
    assert_eq!(recipe.data.path.as_deref(), Some(Path::new("/x")));
    assert_eq!(recipe.train.trainable.unwrap(), ["fc.*", "layer4.*"]);
    assert_eq!(recipe.model.weights, Weights::File("/w.safetensors".into()));
    assert_eq!((recipe.optimizer.lr, recipe.seed), (1.0, 16));
    assert_eq!(recipe.data.validation, Validation::Count(500));
    assert_eq!(recipe.select.restore, Restore::End);

    let recipe = loaded(SHORT, &["data.path=2024", "train.trainable=fc.*"], &[]).unwrap().recipe;
    assert!(recipe.data.path.unwrap().ends_with("2024"));
    assert_eq!(recipe.train.trainable.unwrap(), ["fc.*"]);
}

#[test]
fn relative_paths_are_taken_from_the_current_directory() {
    let here = std::env::current_dir().unwrap();
    let recipe = loaded(SHORT, &["data.path=pictures", "model.weights=w.safetensors"], &[]).unwrap().recipe;
    assert_eq!(recipe.data.path, Some(here.join("pictures")));
    assert_eq!(recipe.model.weights.file(), Some(&*here.join("w.safetensors")));
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_nearest_right_one() {
    for (text, message, hint) in [
        (
            "[data]\nname = \"cifar10\"\n\n[optimzer]\n# fast\nlr = 1\n",
            "unknown key `optimzer.lr` in my.toml, line 6",
            "did you mean `optimizer.lr`?",
        ),
        ("batchsize = 3\n", "unknown key `batchsize` in my.toml, line 1", ""),
        (
            "[data]\nname = \"cifar10\"\nepochs = 3\n",
            "unknown key `data.epochs` in my.toml, line 3",
            "did you mean `epochs`? It stands before the first [section]",
        ),
        (
            "data.name = \"cifar10\"\noptimizer = { lrr = 3 }\n",
            "unknown key `optimizer.lrr` in my.toml, line 2",
            "did you mean `optimizer.lr`?",
        ),
        // The first in the file, whatever the alphabet says.
        ("zzz = 1\naaa = 1\n", "unknown key `zzz` in my.toml, line 1", ""),
        ("[data]\nname = \"cifar10\"\n[nothing]\n", "unknown key `nothing` in my.toml, line 3", ""),
    ] {
        let (found, found_hint) = refused(text, &[], &[]);
        assert_eq!(found, message);
        assert!(!found_hint.is_empty() && (hint.is_empty() || found_hint == hint), "{found_hint}");
    }
    let (message, hint) = refused(SHORT, &["optimzer.lr=1"], &[]);
    assert_eq!(message, "unknown key `optimzer.lr` in --set optimzer.lr=1");
    assert_eq!(hint, "did you mean `optimizer.lr`?");
    let (message, hint) = refused(SHORT, &[], &[("LOCKSTEP_OPTIMIZER__MOMENTUN", "1")]);
    assert_eq!(
        message,
        "unknown key `optimizer.momentun` in the environment variable LOCKSTEP_OPTIMIZER__MOMENTUN"
    );
    assert_eq!(hint, "did you mean `optimizer.momentum`?");
}

#[test]
fn errors_come_with_a_hint_where_one_is_known() {
    for (set, hint) in [
        ("model.weights=imagenet1k-v3", "did you mean \"imagenet1k-v"),
        ("model.weights=w.zip", "its ending tells how to read it"),
        ("model.name=resnet5O", "did you mean \"resnet50\"?"),
        ("data.name=Shape", "did you mean \"shapes\"?"),
        ("train.trainable=layr4.*", "did you mean `layer4.*`?"),
        ("train.trainable=fc1", "did you mean `fc`?"),
        ("train.frozen=[\"full\"]", "train at least the head"),
        ("train.trainable=layer4.*,fc.*", "several patterns are a list"),
        ("batch=3", "fewer shards or a larger batch"),
        ("train.trainable=[\"fc.*", "quote it for the shell"),
        ("epochs", "for example --set optimizer.lr=0.01"),
    ] {
        let (message, found) = refused(SHORT, &[set], &[]);
        assert!(found.contains(hint), "{set}: {message} / {found}");
    }
}

#[test]
fn a_value_that_only_clashes_with_a_default_is_blamed_on_what_was_written() {
    let (message, _) = refused(SHORT, &["shards=101"], &[]);
    assert_eq!(message, "`batch` must be at least 2 times shards, 202, but is 200 in --set shards=101");
}

#[test]
fn a_missing_name_of_the_data_is_asked_for() {
    let (message, hint) = refused("epochs = 3\n", &[], &[]);
    assert!(message.starts_with("`data.name` is missing in"), "{message}");
    assert!(hint.contains("--set data.name=cifar10"));
    let bare = Recipe::load(&Sources::default()).unwrap_err();
    assert_eq!(bare.to_string(), "`data.name` is missing");
}

#[test]
fn broken_toml_is_told_with_line_and_column() {
    for (text, place) in [
        ("seed = 1\nbatch = \n", "in my.toml, line 2, column"),
        ("seed = 1\nseed = 2\n", "in my.toml, line 2, column 1"),
        ("[data\nname = 1\n", "in my.toml, line 1, column"),
        ("[data]\nname = \"cifar10\n", "in my.toml, line 2, column"),
    ] {
        let (message, _) = refused(text, &[], &[]);
        assert!(message.contains(place) && !message.contains('\n'), "{text}: {message}");
    }
}

#[test]
fn a_missing_file_is_told_in_words() {
    let file = Some(PathBuf::from("/nowhere/my.toml"));
    let error = Recipe::load(&Sources { file, ..Sources::default() }).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the recipe /nowhere/my.toml: there is no such file");
    assert!(error.hint().unwrap().contains("recipe init"));
}

#[test]
fn settings_that_are_probably_not_meant_are_warned_of() {
    let unfrozen =
        ["epochs=200", "train.trainable=head", "train.unfreeze_at={ epoch = 2, patterns = [\"*\"] }"];
    let to_zero = ["schedule.name=cosine-to-zero"];
    for quiet in [&["schedule.t_max=100"][..], &unfrozen, &to_zero] {
        assert_eq!(loaded(SHORT, quiet, &[]).unwrap().warnings, [""; 0]);
    }
    for (sets, warning) in [
        (&["epochs=200", "select.split=test"][..], "its test accuracy will be too good"),
        (
            &["epochs=100"],
            "schedule.t_max = 200 but epochs = 100: the learning rate ends at 50 % of its start",
        ),
        (
            &["epochs=300"],
            "the learning rate reaches 0 after 200 epochs, rises again and ends at 50 % of its start",
        ),
        (&["epochs=200", "train.trainable=fc.*"], "all but the head is frozen: its features are random"),
        (
            &["epochs=200", "train.trainable=[\"layer4.*\", \"fc.*\"]"],
            "129 of 161 parameter tensors are frozen at random values",
        ),
        (
            &["epochs=200", "model.weights=/w.safetensors"],
            "torchvision's weights were trained with \"imagenet\"",
        ),
        (&["epochs=200", "select.patience=200"], "the run never stops early"),
    ] {
        let warnings = loaded(SHORT, sets, &[]).unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{sets:?}: {warnings:?}");
        assert!(warnings[0].contains(warning), "{sets:?}: {warnings:?}");
    }
}

#[test]
fn origins_are_written_behind_the_values() {
    let Loaded { recipe, origins, .. } = loaded(SHORT, &["epochs=3"], &[]).unwrap();
    let text = recipe.to_toml_with_origins(&origins);
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    assert!(line("epochs").starts_with("epochs = 3  ") && line("epochs").ends_with("  # --set"));
    assert!(line("name = \"cifar10\"").ends_with("# file line 2"));
    assert!(line("seed").ends_with("# default"));
    assert_eq!(Recipe::from_toml_str(&text, "shown").unwrap(), recipe);
}

#[test]
fn normalisations_give_three_channels_each() {
    assert_eq!(Normalize::Half.mean_std(), ([0.5; 3], [0.5; 3]));
    assert_eq!(Normalize::Imagenet.mean_std().0[0], 0.485);
    assert_eq!(Normalize::Cifar10.mean_std().1[2], 0.2616);
}

#[test]
fn the_process_environment_gives_only_the_programs_variables() {
    let env: BTreeMap<String, String> = Sources::process_env();
    assert!(env.keys().all(|name| name.starts_with("LOCKSTEP_")));
}
