//! The order of a model's guesses, and how sure it is of them.
//!
//! As PyTorch orders them: of equal logits the lower class comes first, and what is no number comes before everything.
//! So what is counted here is what the trainer counted.

use std::cmp::Ordering;

/// The classes by falling logit.
pub fn ranked(logits: &[f32]) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..logits.len()).collect();
    // Stable: of equal ones the lower class stays first.
    classes.sort_by(|a, b| falling(logits[*a], logits[*b]));
    classes
}

/// How many classes come before `class`.
pub fn rank_of(logits: &[f32], class: usize) -> usize {
    let own = logits[class];
    let before = |(other, logit): (usize, &f32)| match falling(*logit, own) {
        Ordering::Less => true,
        Ordering::Equal => other < class,
        Ordering::Greater => false,
    };
    logits.iter().enumerate().filter(|it| before(*it)).count()
}

/// The class with the highest logit.
pub(super) fn best(logits: &[f32]) -> usize {
    let better = |best, class| if falling(logits[class], logits[best]).is_lt() { class } else { best };
    (0..logits.len()).fold(0, better)
}

/// The softmax of logits, in f64. All NaN where one logit is NaN or infinitely high.
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    // f32's own `max` would pass over a NaN, but then the sum below is NaN, and with it everything.
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> =
        logits.iter().map(|logit| (f64::from(*logit) - f64::from(highest)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The loss of a sample of class `label`: minus the logarithm of its probability.
pub fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - highest).exp()).sum();
    highest + sum.ln() - f64::from(logits[label])
}

fn falling(a: f32, b: f32) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
        (a, b) => b.cmp(&a),
    }
}
