//! The result as a person reads it: accuracies in per cent, a line per class.

use std::fmt::Write as _;

use crate::report::Report;

/// A headline, loss and accuracy, and the table of classes.
pub(super) fn text(headline: &str, report: &Report) -> String {
    let per_cent = |value: f64| format!("{:.2} %", 100.0 * value);
    let mut text = format!(
        "{headline}\nloss {:.4}  top-1 {} ({}/{})",
        report.loss,
        per_cent(report.acc_top1()),
        report.correct,
        report.samples
    );
    // Writing to a String cannot fail.
    if let (Some(accuracy), Some(correct)) = (report.acc_top5(), report.correct_top5) {
        let _ = write!(text, "  top-5 {} ({correct}/{})", per_cent(accuracy), report.samples);
    }
    let mut rows: Vec<[String; 5]> = Vec::with_capacity(report.classes.len() + 3);
    rows.push(["class", "precision", "recall", "F1", "samples"].map(str::to_owned));
    for class in &report.classes {
        let name = class.class.replace(char::is_control, " ");
        let ratios = [class.precision, class.recall, class.f1].map(per_cent);
        let [precision, recall, f1] = ratios;
        rows.push([name, precision, recall, f1, class.support.to_string()]);
    }
    for (name, average) in
        [("mean over classes", report.macro_average), ("mean over samples", report.weighted_average)]
    {
        let [precision, recall, f1] = [average.precision, average.recall, average.f1].map(per_cent);
        rows.push([name.to_owned(), precision, recall, f1, report.samples.to_string()]);
    }
    let width = rows.iter().map(|row| row[0].chars().count()).max().unwrap_or(0);
    text.push_str("\n\n");
    for [name, precision, recall, f1, samples] in rows {
        let _ = writeln!(text, "{name:<width$}  {precision:>9}  {recall:>9}  {f1:>9}  {samples:>8}");
    }
    text
}
