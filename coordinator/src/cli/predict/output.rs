//! Guesses as a person, a spreadsheet or a program reads them. Each picture is told as soon as it is known.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use crate::report::{csv_row, probabilities, ranked};

/// How guesses are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Csv,
    Json,
}

/// What a model says of one picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Predicted<'a> {
    pub(super) file: &'a Path,
    /// `[classes]`.
    pub(super) logits: &'a [f32],
    pub(super) classes: &'a [String],
    /// How many guesses to tell.
    pub(super) top: usize,
}

impl Predicted<'_> {
    /// Class numbers and probabilities, the likeliest first.
    fn guesses(&self) -> Vec<(usize, f64)> {
        let probabilities = probabilities(self.logits);
        ranked(self.logits).into_iter().take(self.top).map(|class| (class, probabilities[class])).collect()
    }
}

impl Format {
    pub(super) fn of(json: bool, csv: bool) -> Self {
        match (json, csv) {
            (true, _) => Self::Json,
            (_, true) => Self::Csv,
            _ => Self::Text,
        }
    }

    /// What comes before all pictures.
    pub(super) fn head(self) -> &'static str {
        match self {
            Self::Text => "",
            Self::Csv => "file,rank,class,label,probability\n",
            Self::Json => "[",
        }
    }

    /// What comes after all pictures, of which there were `count`.
    pub(super) fn foot(self, count: usize) -> &'static str {
        match (self, count) {
            (Self::Text | Self::Csv, _) => "",
            (Self::Json, 0) => "]\n",
            (Self::Json, _) => "\n]\n",
        }
    }

    /// One picture.
    pub(super) fn picture(self, predicted: &Predicted<'_>, is_first: bool) -> String {
        match self {
            Self::Text => text(predicted),
            Self::Csv => csv(predicted),
            Self::Json => json(predicted, is_first),
        }
    }
}

fn text(predicted: &Predicted<'_>) -> String {
    let mut text = predicted.file.to_string_lossy().replace(char::is_control, " ") + "\n";
    for (class, probability) in predicted.guesses() {
        let name = predicted.classes[class].replace(char::is_control, " ");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:6.2} %  {name}", 100.0 * probability);
    }
    text
}

/// Ranks count from 1, labels from 0.
fn csv(predicted: &Predicted<'_>) -> String {
    let file = predicted.file.display().to_string();
    let row = |(rank, (class, probability)): (usize, (usize, f64))| {
        let (rank, label, probability) = ((rank + 1).to_string(), class.to_string(), probability.to_string());
        csv_row([&file, &rank, &predicted.classes[class], &label, &probability])
    };
    predicted.guesses().into_iter().enumerate().map(row).collect()
}

/// All logits, each as the decimal number that is exactly its value; what is no number is null.
fn json(predicted: &Predicted<'_>, is_first: bool) -> String {
    let guess = |(class, probability)| json!({ "class": predicted.classes[class], "label": class, "probability": probability });
    let picture = json!({
        "file": predicted.file.to_string_lossy(),
        "top": predicted.guesses().into_iter().map(guess).collect::<Vec<_>>(),
        "logits": predicted.logits.iter().map(|logit| f64::from(*logit)).collect::<Vec<_>>(),
    });
    format!("{}\n{picture}", if is_first { "" } else { "," })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(format: Format, pictures: &[(&str, &[f32])], classes: &[&str], top: usize) -> String {
        let classes: Vec<String> = classes.iter().map(|name| (*name).to_owned()).collect();
        let mut told = format.head().to_owned();
        for (index, (file, logits)) in pictures.iter().enumerate() {
            let predicted = Predicted { file: Path::new(file), logits, classes: &classes, top };
            told += &format.picture(&predicted, index == 0);
        }
        told + format.foot(pictures.len())
    }

    #[test]
    fn json_is_an_array_with_every_logit_to_the_bit() {
        let logits = [0.1, f32::MIN_POSITIVE, -3.402_823_5e38];
        let text = told(Format::Json, &[("a \"b\".png", &logits), ("c", &logits)], &["x", "y", "z"], 2);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read.as_array().unwrap().len(), 2);
        assert_eq!(read[0]["file"], "a \"b\".png");
        let back: Vec<f64> =
            read[1]["logits"].as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
        assert_eq!(back, logits.map(f64::from), "also for readers that know f64 alone");
        let top = read[0]["top"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["class"], &top[0]["label"]), (2, &json!("x"), &json!(0)));
        let share = top[0]["probability"].as_f64().unwrap();
        assert!((share - 0.1_f64.exp() / (0.1_f64.exp() + 1.0)).abs() < 1e-7);
    }

    #[test]
    fn no_pictures_and_broken_weights_still_give_json() {
        assert_eq!(told(Format::Json, &[], &["x"], 1), "[]\n");
        let text = told(Format::Json, &[("a", &[f32::NAN, 1.0])], &["x", "y"], 1);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(read[0]["logits"][0].is_null() && read[0]["top"][0]["probability"].is_null());
    }

    #[test]
    fn csv_has_a_line_for_each_guess() {
        let text = told(Format::Csv, &[("a,b.png", &[0.0, 3.0_f32.ln()])], &["x", "y \"z\""], 5);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "file,rank,class,label,probability");
        assert!(lines[1].starts_with("\"a,b.png\",1,\"y \"\"z\"\"\",1,0.75"), "{text}");
        assert!(lines[2].starts_with("\"a,b.png\",2,x,0,0.2"), "{text}");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn text_shows_per_cent_and_one_line_for_each_name() {
        let text = told(Format::Text, &[("a.png", &[0.0, 3.0_f32.ln()])], &["x", "two\nlines"], 2);
        assert_eq!(text, "a.png\n   75.00 %  two lines\n   25.00 %  x\n");
    }
}
