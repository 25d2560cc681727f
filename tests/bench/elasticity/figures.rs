//! Numbers out of lists of numbers.

use serde_json::{Value, json};

/// The middle one; of an even number the mean of both.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    quantile(numbers, 0.5)
}

/// Linear between the neighbours, as numpy's default.
pub(crate) fn quantile(numbers: &[f64], share: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = share * last as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (at - low as f64)
}

/// Median, extremes and count, rounded for people.
pub(crate) fn summary(numbers: &[f64]) -> Value {
    let round = |number: f64| (number * 1000.0).round() / 1000.0;
    json!({
        "median": round(median(numbers)),
        "least": round(quantile(numbers, 0.0)),
        "most": round(quantile(numbers, 1.0)),
        "count": numbers.len(),
    })
}
