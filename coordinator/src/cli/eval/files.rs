//! The files of an evaluation. All are made in a folder of their own and only then moved to where people look, so that
//! what bears a final name is whole; `metrics.json` comes last.

use std::fs::{self, File};
use std::path::Path;

use serde_json::Value;

use super::samples::EvalSamples;
use crate::cli::{CliError, code};
use crate::durable;
use crate::plot::{self, Caption, Picture, Tile, Tone};
use crate::report::{Confusion, Prediction, Report, csv_row};
use crate::trained::TrainedModel;

/// Pictures in the gallery of what is most confidently wrong: a screenful.
const WRONG_SHOWN: usize = 40;

/// In the order in which they get their names.
const NAMES: [&str; 6] =
    ["confusion.csv", "confusion.png", "per_class.csv", "predictions.csv", "wrong.png", "metrics.json"];

/// Refuses a place that cannot be a folder or be written to, before anything is computed. Nothing is made.
pub(super) fn check_folder(folder: &Path) -> Result<(), CliError> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let existing = folder.ancestors().find(|it| it.exists()).unwrap_or(&folder);
    if !existing.is_dir() {
        return Err(CliError::new(code::USAGE, format!("{} is no folder", existing.display()))
            .hint("--out names a folder, which is made if it is not there"));
    }
    match tempfile::tempfile_in(existing) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(CliError::new(code::USAGE, format!("cannot write into {}: {error}", existing.display()))
                .hint("choose another folder with --out"))
        }
    }
}

/// What `metrics.json` holds as text: `metrics`, whose `confusion` is null, with the counts in its place. Each row is a
/// line: a number in each would be a million lines for a thousand classes.
pub(super) fn json_text(metrics: &Value, confusion: &Confusion) -> String {
    // Strings have no line ends in JSON, so nothing else begins a line like this.
    const PLACE: &str = "\n  \"confusion\": ";
    let row = |counts: &[u64]| counts.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let rows: Vec<String> = confusion.rows().map(|counts| format!("[{}]", row(counts))).collect();
    let rows = format!("{PLACE}[\n    {}\n  ]", rows.join(",\n    "));
    format!("{metrics:#}\n").replacen(&format!("{PLACE}null"), &rows, 1)
}

/// Writes all of them into `folder`, which is made where it is missing.
pub(super) fn write(
    folder: &Path,
    metrics: &Value,
    report: &Report,
    model: &TrainedModel,
    samples: &EvalSamples,
) -> Result<(), CliError> {
    let cannot = |error: std::io::Error| {
        CliError::new(code::FAILED, format!("cannot write into {}: {error}", folder.display()))
            .hint("choose another folder with --out")
    };
    fs::create_dir_all(folder).map_err(cannot)?;
    let aside = tempfile::Builder::new().prefix(".eval-").tempdir_in(folder).map_err(cannot)?;
    let path = |name: &str| aside.path().join(name);
    fs::write(path("metrics.json"), json_text(metrics, &report.confusion)).map_err(cannot)?;
    fs::write(path("per_class.csv"), per_class(report)).map_err(cannot)?;
    fs::write(path("confusion.csv"), confusion(&report.confusion, &model.classes)).map_err(cannot)?;
    fs::write(path("predictions.csv"), predictions(report, &model.classes)).map_err(cannot)?;
    let split = samples.split.as_str();
    let title = format!("{}: {split}, {:.2} % right", model.name, 100.0 * report.acc_top1());
    if let Err(error) =
        plot::write_confusion(&path("confusion.png"), &title, &report.confusion, &model.classes)
    {
        // Of thousands of classes there is no picture; the numbers are in the table.
        eprintln!("note: confusion.png is not drawn: {error}");
    }
    plot::write_gallery(&path("wrong.png"), &wrong_title(report), &wrong(report, model, samples)?)?;
    for name in NAMES {
        let synced = File::open(path(name)).and_then(|file| file.sync_all());
        match synced.and_then(|()| fs::rename(path(name), folder.join(name))) {
            // An older picture would show something else.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                drop(fs::remove_file(folder.join(name)))
            }
            renamed => renamed.map_err(cannot)?,
        }
    }
    durable::sync_folder(folder).map_err(cannot)
}

fn per_class(report: &Report) -> String {
    let mut table = "class,label,precision,recall,f1,support,predicted\n".to_owned();
    for class in &report.classes {
        let numbers = [class.precision, class.recall, class.f1].map(|value| value.to_string());
        let [precision, recall, f1] = numbers;
        let (label, support, predicted) = (class.label, class.support, class.predicted);
        let counts = [label, support as usize, predicted as usize].map(|value| value.to_string());
        let [label, support, predicted] = counts;
        table += &csv_row([&class.class, &label, &precision, &recall, &f1, &support, &predicted]);
    }
    table
}

/// A row per true class, a column per predicted one.
fn confusion(confusion: &Confusion, classes: &[String]) -> String {
    let corner = "true \\ predicted";
    let mut table = csv_row(std::iter::once(corner).chain(classes.iter().map(String::as_str)));
    for (class, counts) in classes.iter().zip(confusion.rows()) {
        table += &csv_row(std::iter::once(class.clone()).chain(counts.iter().map(u64::to_string)));
    }
    table
}

/// A row per sample: its row in the data set file, and names.
fn predictions(report: &Report, classes: &[String]) -> String {
    let mut table = "row,true,predicted,confidence\n".to_owned();
    for Prediction { row, label, predicted, confidence } in &report.predictions {
        let (row, confidence) = (row.to_string(), confidence.to_string());
        table += &csv_row([&row, &classes[*label], &classes[*predicted], &confidence]);
    }
    table
}

fn wrong_title(report: &Report) -> String {
    match report.samples - report.correct {
        0 => format!("None of {} is wrong", report.samples),
        wrong if wrong as usize > WRONG_SHOWN => {
            format!("The {WRONG_SHOWN} most confidently wrong of {wrong} (of {})", report.samples)
        }
        wrong => format!("All {wrong} that are wrong (of {}), the most confident first", report.samples),
    }
}

fn wrong(report: &Report, model: &TrainedModel, samples: &EvalSamples) -> Result<Vec<Tile>, CliError> {
    let mut wrong = report.most_confidently_wrong();
    wrong.truncate(WRONG_SHOWN);
    let rows: Vec<usize> = wrong.iter().map(|it| it.row).collect();
    let (images, _) = samples.data.pictures(samples.stored_split(), &rows)?;
    let tile = |(prediction, picture): (&&Prediction, Picture)| {
        let name = |class: usize| model.classes.get(class).map_or("?", String::as_str);
        let said = format!("{:.1} % {}", 100.0 * prediction.confidence, name(prediction.predicted));
        Tile {
            pictures: vec![picture],
            captions: vec![
                Caption { text: name(prediction.label).to_owned(), tone: Tone::Plain },
                Caption { text: said, tone: Tone::Wrong },
            ],
        }
    };
    Ok(wrong.iter().zip(Picture::all(samples.data.image_size, &images)).map(tile).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_keep_names_with_commas_and_numbers_to_the_bit() {
        let classes = ["a,b", "say \"c\""].map(str::to_owned);
        let logits = [0.1, 0.2, 0.5, 0.25];
        let report = Report::new(&[5, 9], &[0, 0], &logits, 1.0, &classes);
        assert_eq!(
            confusion(&report.confusion, &classes),
            "true \\ predicted,\"a,b\",\"say \"\"c\"\"\"\n\"a,b\",1,1\n\"say \"\"c\"\"\",0,0\n"
        );
        let table = predictions(&report, &classes);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].starts_with("5,\"a,b\",\"say \"\"c\"\"\",0.52"), "{table}");
        let confidence: f64 = lines[2].rsplit(',').next().unwrap().parse().unwrap();
        assert_eq!(confidence, report.predictions[1].confidence);
        assert!(
            per_class(&report)
                .starts_with("class,label,precision,recall,f1,support,predicted\n\"a,b\",0,1,0.5,")
        );
    }

    #[test]
    fn the_json_text_is_the_same_json_with_a_line_for_each_row_of_counts() {
        let mut metrics = serde_json::json!({
            "a": "\n  \"confusion\": null", "classes": [{ "class": "x" }], "confusion": null, "z": 0.1,
        });
        let mut confusion = Confusion::new(2);
        for (label, predicted) in [(0, 1), (0, 1), (1, 0), (1, 1)] {
            confusion.count(label, predicted);
        }
        let text = json_text(&metrics, &confusion);
        metrics["confusion"] = serde_json::json!([[0, 2], [1, 1]]);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), metrics);
        assert!(text.contains("\n    [0,2],\n    [1,1]\n  ],\n"), "{text}");
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_refused_before_anything_is_computed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(check_folder(&folder.path().join("new/folder")).is_ok());
        assert!(!folder.path().join("new").exists(), "nothing is made");
        for wrong in [folder.path().join("file"), folder.path().join("file/below"), "/proc/nothing".into()] {
            let error = check_folder(&wrong).unwrap_err();
            assert!(error.code == 2 && error.hint.is_some(), "{error}");
        }
    }

    #[test]
    fn the_gallery_says_how_much_of_all_it_shows() {
        let classes = ["a", "b"].map(str::to_owned);
        let title = |labels: &[usize]| {
            let rows: Vec<usize> = (0..labels.len()).collect();
            wrong_title(&Report::new(&rows, labels, &[1.0, 0.0].repeat(labels.len()), 1.0, &classes))
        };
        assert_eq!(title(&[0, 0]), "None of 2 is wrong");
        assert_eq!(title(&[0, 1]), "All 1 that are wrong (of 2), the most confident first");
        assert_eq!(title(&[1; 50]), "The 40 most confidently wrong of 50 (of 50)");
    }
}
