//! Bad input: one clear message, the right exit code, and nothing left behind.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::home::{Home, set};
use crate::process::Running;

/// Two epochs of generated pictures, if nothing is wrong.
const GOOD: [&str; 5] =
    ["data.name=shapes", "data.train=40", "data.test=10", "model.name=resnet18", "batch=10"];

/// `lockstep train` with `arguments` and `settings` ends with `code`, says `words`, and leaves no run.
#[track_caller]
fn refused(home: &Home, arguments: &[&str], settings: &[&str], code: i32, words: &[&str]) {
    let mut command = home.lockstep(&["train"]);
    command.args(arguments);
    set(&mut command, settings);
    let ended = Running::start(&mut command).wait().expect(code);
    ended.says(words);
    assert_eq!(ended.stdout, "");
    assert_eq!(home.runs(), Vec::<String>::new());
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_the_nearest_right_one() {
    let home = Home::new();
    let recipe = home.beside("my.toml");
    fs::write(&recipe, "epochs = 1\n[data]\nname = \"shapes\"\n\n[optimizer]\nmomentun = 0.5\n").unwrap();
    let recipe = recipe.to_str().unwrap();
    let words =
        ["unknown key `optimizer.momentun`", "my.toml, line 6", "hint: did you mean `optimizer.momentum`?"];
    refused(&home, &[recipe], &[], 2, &words);
    let words = ["unknown key `optimzer.lr` in --set optimzer.lr=1", "did you mean `optimizer.lr`?"];
    refused(&home, &[], &["data.name=shapes", "optimzer.lr=1"], 2, &words);
}

#[test]
fn a_value_of_the_wrong_type_is_told_with_what_it_should_be() {
    let home = Home::new();
    let recipe = home.beside("my.toml");
    fs::write(&recipe, "epochs = \"many\"\n[data]\nname = \"shapes\"\n").unwrap();
    let recipe = recipe.to_str().unwrap();
    refused(&home, &[recipe], &[], 2, &["`epochs` must be a whole number", "\"many\"", "my.toml, line 1"]);
    refused(
        &home,
        &[],
        &["data.name=shapes", "optimizer.lr=-1"],
        2,
        &["`optimizer.lr` must be a number above 0", "-1"],
    );
    let trainable = ["data.name=shapes", "train.trainable=[\"layer9.*\"]"];
    refused(&home, &[], &trainable, 2, &["`layer9.*`", "matches no parameter of resnet50", "hint: "]);
    refused(&home, &[], &["data.name=mnist"], 2, &["`data.name`", "mnist", "cifar10", "shapes"]);
    refused(&home, &[], &[], 2, &["`data.name` is missing", "hint: "]);
}

#[test]
fn a_recipe_that_is_not_there_or_no_toml_is_told_of() {
    let home = Home::new();
    refused(
        &home,
        &["nowhere.toml"],
        &[],
        2,
        &["cannot read the recipe nowhere.toml", "no such file", "recipe init"],
    );
    let recipe = home.beside("broken.toml");
    fs::write(&recipe, "epochs = 1\nbatch = = 2\n").unwrap();
    refused(&home, &[recipe.to_str().unwrap()], &[], 2, &["broken.toml, line 2"]);
}

#[test]
fn settings_that_the_data_does_not_allow_are_told_of() {
    let home = Home::new();
    let mut settings = GOOD.to_vec();
    settings.extend(["batch=64", "shards=33"]);
    refused(&home, &[], &settings, 2, &["`batch` must be at least 2 times shards, 66", "is 64"]);
    let settings = ["data.name=shapes", "data.train=10", "data.validation=10", "batch=4", "shards=1"];
    refused(&home, &[], &settings, 2, &["`data.train` must be enough for one step", "10 for validation"]);
}

#[test]
fn numbers_of_workers_and_names_of_runs_are_checked_first() {
    let home = Home::new();
    refused(&home, &["--workers", "0"], &GOOD, 2, &["--workers", "'0'"]);
    refused(&home, &["--workers", "two"], &GOOD, 2, &["--workers", "'two'"]);
    for name in ["../x", "", "a/b", ".hidden", "a b"] {
        refused(&home, &["--name", name], &GOOD, 2, &[&format!("`{name}` cannot be a run's name")]);
    }
    refused(&home, &["--log", "loud=very"], &GOOD, 2, &["--log loud=very", "hint: levels are"]);
    assert!(!home.path().exists(), "not even a home was made");
}

#[test]
fn a_run_of_the_same_name_is_never_touched() {
    let home = Home::new();
    let taken = home.path().join("runs/taken");
    fs::create_dir_all(&taken).unwrap();
    fs::write(taken.join("mine"), "precious").unwrap();
    let mut command = home.lockstep(&["train", "--name", "taken"]);
    set(&mut command, &GOOD);
    let ended = Running::start(&mut command).wait().expect(2);
    ended.says(&["a run named taken exists already", "hint: ", "lockstep resume taken"]);
    assert_eq!(home.runs(), ["taken"]);
    assert_eq!(fs::read_dir(&taken).unwrap().count(), 1);
}

#[test]
fn a_port_in_use_is_told_of() {
    let home = Home::new();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let words = [format!("cannot listen on {address}"), "hint: ".into(), "--listen".into()];
    refused(&home, &["--listen", &address], &GOOD, 4, &words.each_ref().map(String::as_str));
    refused(
        &home,
        &["--listen", "0.0.0.0:0"],
        &GOOD,
        2,
        &["0.0.0.0:0 is not an address of this machine alone"],
    );
}

/// A tiny CIFAR-10 in the binary edition: two pictures of every class to train on, one to test.
fn write_cifar10(folder: &Path) {
    let batch = |labels: &[u8]| -> Vec<u8> {
        labels
            .iter()
            .flat_map(|label| std::iter::once(*label).chain((0..3072).map(move |i| (i % 251) as u8 ^ label)))
            .collect()
    };
    fs::create_dir_all(folder).unwrap();
    for number in 1..=5 {
        fs::write(folder.join(format!("data_batch_{number}.bin")), batch(&[0, 1, 2, 3])).unwrap();
    }
    fs::write(folder.join("test_batch.bin"), batch(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])).unwrap();
}

#[test]
fn data_that_is_missing_or_damaged_is_told_of_by_file() {
    let home = Home::new();
    let folder = home.beside("cifar");
    let path = format!("data.path={}", folder.display());
    let settings = ["data.name=cifar10", "model.name=resnet18", "batch=10", &path];
    let train_4 = [&settings[..], &["data.train=4", "data.test=1", "batch=4", "shards=1"]].concat();
    refused(&home, &[], &settings, 3, &["there is no CIFAR-10 at", "cifar", "hint: data.path is"]);

    write_cifar10(&folder);
    let third = folder.join("data_batch_3.bin");
    let whole = fs::read(&third).unwrap();
    fs::write(&third, &whole[..whole.len() - 100]).unwrap();
    refused(&home, &[], &train_4, 3, &["data_batch_3.bin is 12192 bytes long", "multiple of 3073", "hint: "]);

    let mut labelled_ten = whole.clone();
    labelled_ten[3073] = 10;
    fs::write(&third, labelled_ten).unwrap();
    refused(&home, &[], &train_4, 3, &["data_batch_3.bin: record 1 has label 10, expected 0 to 9"]);

    fs::remove_file(&third).unwrap();
    refused(&home, &[], &train_4, 3, &["has no `data_batch_3.bin`", "hint: "]);

    fs::write(&third, whole).unwrap();
    let more = [&settings[..], &["data.train=21"]].concat();
    refused(&home, &[], &more, 3, &["data.train asks for 21 samples, expected 1 to 20"]);
}

#[test]
fn weights_that_are_missing_or_no_safetensors_are_told_of() {
    let home = Home::new();
    let file = home.beside("weights.safetensors");
    let weights = format!("model.weights={}", file.display());
    let settings = [&GOOD[..], &[&weights]].concat();
    refused(
        &home,
        &[],
        &settings,
        3,
        &["the weights", "weights.safetensors cannot be read", "hint: model.weights"],
    );
    fs::write(&file, b"\x80\x02}q\x01 a pickle, not safetensors").unwrap();
    refused(
        &home,
        &[],
        &settings,
        3,
        &["the weights", "weights.safetensors cannot be read", "hint: the file is cut short or damaged"],
    );
}

#[test]
fn weights_of_another_architecture_are_told_of() {
    let home = Home::new();
    let file = home.beside("weights.safetensors");
    let data = [0; 4 * 64];
    let tensor = TensorView::new(Dtype::F32, vec![64, 1, 1, 1], &data).unwrap();
    let bytes = safetensors::serialize([("layer1.0.conv3.weight", tensor)], None).unwrap();
    fs::write(&file, bytes).unwrap();
    let weights = format!("model.weights={}", file.display());
    let settings = [&GOOD[..], &[&weights]].concat();
    refused(
        &home,
        &[],
        &settings,
        3,
        &["weights.safetensors has no tensor conv1.weight", "resnet18", "hint: "],
    );
}
