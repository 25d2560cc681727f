//! A folder of pictures by class is a data set like any other.

use std::fs;
use std::path::Path;

use crate::home::{Home, RUN};
use crate::process::Running;

/// Pictures of one colour each and of different sizes, by class.
fn write_pictures(folder: &Path, classes: &[&str], count: u32) {
    for (class, name) in (0_u8..).zip(classes) {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        for index in 0..count {
            let pixel = image::Rgb([80 * class, 255 - 80 * class, (index * 9) as u8]);
            image::RgbImage::from_pixel(40 + index, 36, pixel)
                .save(folder.join(format!("{index}.png")))
                .unwrap();
        }
    }
}

/// Settings for a run on the pictures in `folder`.
fn settings(folder: &Path) -> Vec<String> {
    let mut settings: Vec<String> =
        ["data.name=folder", "data.validation=6", "model.name=resnet18", "batch=8", "shards=1", "epochs=1"]
            .map(str::to_owned)
            .to_vec();
    settings.push(format!("data.path={}", folder.display()));
    settings
}

fn train(home: &Home, settings: &[String]) -> Running {
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    Running::start(&mut home.train(1, &settings))
}

#[test]
fn a_folder_with_splits_trains_and_its_class_names_go_with_the_model() {
    let home = Home::new();
    let folder = home.beside("pets");
    write_pictures(&folder.join("train"), &["cat", "dog", "fish"], 10);
    write_pictures(&folder.join("val"), &["cat", "dog", "fish"], 2);
    train(&home, &settings(&folder)).wait().expect(0);
    let status = home.run().status();
    assert_eq!(status["test"]["count"], 6);
    assert_eq!(status["run"]["classes"], serde_json::json!(["cat", "dog", "fish"]));

    let picture = folder.join("val/dog/0.png");
    let predict = ["predict", RUN, picture.to_str().unwrap(), "--json"];
    let ended = Running::start(&mut home.lockstep(&predict)).wait().expect(0);
    let found: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(found[0]["top"].as_array().unwrap().len(), 3, "no more guesses than classes");
    assert_eq!(found[0]["logits"].as_array().unwrap().len(), 3);
}

#[test]
fn broken_pictures_stop_a_run_unless_they_are_to_be_skipped() {
    let home = Home::new();
    let folder = home.beside("pets");
    write_pictures(&folder, &["cat", "dog"], 12);
    fs::write(folder.join("cat/broken.jpg"), b"GIF89a, or so it says").unwrap();
    let ended = train(&home, &settings(&folder)).wait().expect(3);
    ended.says(&["broken.jpg", "hint: ", "skip_broken"]);
    assert_eq!(home.runs(), Vec::<String>::new());

    let mut skipping = settings(&folder);
    skipping.push("data.skip_broken=true".to_owned());
    train(&home, &skipping).wait().expect(0).says(&["broken.jpg"]);
    assert_eq!(home.run().status()["status"], "done");
}

#[test]
fn an_empty_class_is_named() {
    let home = Home::new();
    let folder = home.beside("pets");
    write_pictures(&folder, &["cat", "dog"], 6);
    fs::create_dir(folder.join("unicorn")).unwrap();
    train(&home, &settings(&folder)).wait().expect(3).says(&["unicorn", "hint: "]);
    assert_eq!(home.runs(), Vec::<String>::new());
}
