//! `results.csv` and `ledger.csv`, a row per epoch.
//!
//! Both are functions of the recipe alone: no clock and no machine is in them, so that two runs of one recipe give
//! the same bytes however they were interrupted. Times are in `events.jsonl`.

use std::fmt::Write;

use lockstep_core::{EpochRow, History, LedgerRow};

/// A row per epoch: learning rate, losses, accuracies (0 to 1), counts, and whether it was the best so far. Where a
/// running average of the weights is kept, its columns come last.
///
/// Floats are written in the shortest form that reads back to the same bits.
pub(super) fn results(history: &History) -> String {
    let eval = history.spec.select.split.as_str();
    let mut table = format!(
        "epoch,step,lr,train/loss,train/acc_top1,train/correct,train/count,\
         {eval}/loss,{eval}/acc_top1,{eval}/correct,{eval}/count,best"
    );
    if history.spec.ema {
        let _ = write!(table, ",ema_{eval}/loss,ema_{eval}/acc_top1,ema_{eval}/correct");
    }
    table.push('\n');
    for EpochRow { epoch, step, learning_rate, train, eval, ema, improved, .. } in &history.rows {
        let mut cells = vec![
            epoch.to_string(),
            step.to_string(),
            learning_rate.to_string(),
            train.loss().to_string(),
            train.accuracy().to_string(),
            train.correct.to_string(),
            train.count.to_string(),
            eval.loss().to_string(),
            eval.accuracy().to_string(),
            eval.correct.to_string(),
            eval.count.to_string(),
            u8::from(*improved).to_string(),
        ];
        if let Some(ema) = ema {
            cells.extend([ema.loss().to_string(), ema.accuracy().to_string(), ema.correct.to_string()]);
        }
        table.push_str(&cells.join(","));
        table.push('\n');
    }
    table
}

/// A row per epoch: how many samples were to be visited, how many were, the digest of their order, and the sum of it in
/// words.
pub(super) fn ledger(history: &History) -> String {
    let mut table = String::from("epoch,expected,seen,lost,repeated,dropped,digest,closing\n");
    for EpochRow { epoch, ledger, .. } in &history.rows {
        let LedgerRow { expected, seen, lost, repeated, dropped, digest } = ledger;
        // No more than that: several repetitions may have been one sample's.
        let once = seen.saturating_sub(*repeated);
        let closing = format!("\"{once} of {expected} once, {lost} lost, {repeated} repeated\"");
        // Writing to a String cannot fail.
        let _ = writeln!(table, "{epoch},{expected},{seen},{lost},{repeated},{dropped},{digest},{closing}");
    }
    table
}
