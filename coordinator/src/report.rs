//! What a classifier is worth on a split: accuracy, loss, and precision and recall of each class, from its logits.
//!
//! A ratio of nothing to nothing (the precision of a class that is never predicted, the recall of one without
//! samples) is 0, as scikit-learn has it, so no table and no JSON ever holds a NaN for it. The averages over classes are
//! scikit-learn's too: over those that occur, as a sample's or as a prediction.

mod confusion;
mod csv;
mod ranking;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use confusion::Confusion;
pub use csv::row as csv_row;
pub use ranking::{cross_entropy, probabilities, rank_of, ranked};

/// A true class within this many best guesses counts for top-5 accuracy.
const TOP: usize = 5;

/// What was predicted for one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// The sample's row in the split's part of the data set file.
    pub row: usize,
    pub label: usize,
    pub predicted: usize,
    /// The probability of what was predicted; NaN where the logits are no numbers.
    pub confidence: f64,
}

impl Prediction {
    pub fn is_right(&self) -> bool {
        self.label == self.predicted
    }
}

/// How well one class is recognised. Ratios are in 0..=1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScore {
    pub label: usize,
    pub class: String,
    /// Of the samples predicted to be of this class, the share that is.
    pub precision: f64,
    /// Of the samples of this class, the share that was predicted to be.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
    /// Samples of this class.
    pub support: u64,
    /// Samples predicted to be of this class.
    pub predicted: u64,
}

/// Means over classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Average {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

/// The whole result.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub samples: u64,
    /// Mean cross-entropy per sample.
    pub loss: f64,
    pub correct: u64,
    /// Samples whose class is among the five best guesses; none where there are no more classes than that.
    pub correct_top5: Option<u64>,
    /// By label.
    pub classes: Vec<ClassScore>,
    /// Every class counts alike.
    pub macro_average: Average,
    /// Every sample counts alike.
    pub weighted_average: Average,
    pub confusion: Confusion,
    /// In the order of the samples.
    pub predictions: Vec<Prediction>,
}

impl Report {
    /// Of samples in `rows` with `labels`, of which the model said `logits` (`[N, classes]`), at a summed loss of `loss_sum`.
    ///
    /// `rows`, `labels` and `logits` have to fit together, and labels have to be below the number of classes.
    pub fn new(rows: &[usize], labels: &[usize], logits: &[f32], loss_sum: f64, classes: &[String]) -> Self {
        let mut confusion = Confusion::new(classes.len());
        let mut predictions = Vec::with_capacity(rows.len());
        let mut in_top = 0;
        for ((&row, &label), logits) in rows.iter().zip(labels).zip(logits.chunks_exact(classes.len())) {
            let predicted = ranking::best(logits);
            let confidence = probabilities(logits)[predicted];
            confusion.count(label, predicted);
            in_top += u64::from(rank_of(logits, label) < TOP);
            predictions.push(Prediction { row, label, predicted, confidence });
        }
        let scores = scores(&confusion, classes);
        Self {
            samples: predictions.len() as u64,
            loss: loss_sum / predictions.len() as f64,
            correct: confusion.correct(),
            correct_top5: (classes.len() > TOP).then_some(in_top),
            macro_average: average(&scores, |score| f64::from(u8::from(score.support + score.predicted > 0))),
            weighted_average: average(&scores, |score| score.support as f64),
            classes: scores,
            confusion,
            predictions,
        }
    }

    /// Top-1 accuracy, in 0..=1.
    pub fn acc_top1(&self) -> f64 {
        self.correct as f64 / self.samples as f64
    }

    /// Top-5 accuracy, in 0..=1.
    pub fn acc_top5(&self) -> Option<f64> {
        Some(self.correct_top5? as f64 / self.samples as f64)
    }

    /// The wrong predictions, the most confident first; of equally confident ones the lowest row.
    pub fn most_confidently_wrong(&self) -> Vec<&Prediction> {
        let mut wrong: Vec<&Prediction> = self.predictions.iter().filter(|it| !it.is_right()).collect();
        // What is no number comes last.
        let key = |it: &Prediction| if it.confidence.is_nan() { -1.0 } else { it.confidence };
        wrong.sort_by(|a, b| key(b).total_cmp(&key(a)).then(a.row.cmp(&b.row)));
        wrong
    }

    /// Samples whose logits are no finite numbers: the weights are broken.
    pub fn not_finite(&self) -> usize {
        self.predictions.iter().filter(|it| it.confidence.is_nan()).count()
    }
}

fn scores(confusion: &Confusion, classes: &[String]) -> Vec<ClassScore> {
    let predicted = confusion.predicted();
    let score = |(label, class): (usize, &String)| {
        let hits = confusion.at(label, label);
        let (support, predicted) = (confusion.support(label), predicted[label]);
        ClassScore {
            label,
            class: class.clone(),
            precision: ratio(hits, predicted),
            recall: ratio(hits, support),
            f1: ratio(2 * hits, support + predicted),
            support,
            predicted,
        }
    };
    classes.iter().enumerate().map(score).collect()
}

/// 0 of 0 is 0.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn average(scores: &[ClassScore], weight: impl Fn(&ClassScore) -> f64) -> Average {
    let total: f64 = scores.iter().map(&weight).sum();
    let mean = |value: fn(&ClassScore) -> f64| {
        let sum: f64 = scores.iter().map(|score| weight(score) * value(score)).sum();
        if total > 0.0 { sum / total } else { 0.0 }
    };
    Average { precision: mean(|it| it.precision), recall: mean(|it| it.recall), f1: mean(|it| it.f1) }
}
