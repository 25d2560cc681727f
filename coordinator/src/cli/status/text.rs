//! An account as a person reads it: what the run is at, who takes part, what every change of membership cost.

use std::fmt::Write as _;

use lockstep_core::{Receipt, Time};
use serde_json::Value;

use super::account::{Account, GenerationAccount, Member, Timed};
use crate::cli::console::counted;

/// The newest changes; all are in the JSON.
const CHANGES_SHOWN: usize = 20;

/// `more` rows follow those of the account.
pub(in crate::cli) fn table(account: &Account, more: &[(&str, String)]) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| text.push_str(&rows(&[(name, value)]));
    let Account { name, status, reason, phase, term, generation, position, .. } = account;
    row("run", name.clone());
    let words: Vec<&str> =
        [status, phase.as_str(), reason].into_iter().filter(|word| !word.is_empty()).collect();
    row("status", words.join(", "));
    row(
        "position",
        format!(
            "step {}, in epoch {} of {}; {} done",
            position.step,
            (position.epoch.0 + 1).min(account.epochs),
            account.epochs,
            counted(account.epochs_done as u64, "epoch")
        ),
    );
    row("generation", format!("{generation}, in term {term}"));
    if let Some(serving) = &account.coordinator {
        row("coordinator", format!("process {}, at {}", serving.pid, serving.address));
    }
    if let Some(best) = &account.best {
        let (split, accuracy) = (best.split.as_str(), 100.0 * best.acc_top1);
        row("best", format!("{split}/acc_top1 {accuracy:.2} %, of epoch {}", best.epoch + 1));
    }
    if let Some(test) = &account.test {
        row("test", format!("acc_top1 {:.2} % ({}/{})", 100.0 * test.accuracy(), test.correct, test.count));
    }
    for (rank, Member { entry, live }) in account.members.iter().enumerate() {
        let name = if rank == 0 { "members" } else { "" };
        row(name, format!("{} on {}, {}{}", entry.worker, entry.device, entry.host, pace(live.as_ref())));
    }
    for Timed { at_ms, what } in &account.stragglers {
        let (worker, own, others) = (&what.worker, what.shard_ms, what.others_ms);
        row("slow", format!("{worker} at {}: {own:.0} ms a shard, the others {others:.0} ms", clock(*at_ms)));
    }
    text.push_str(&rows(more));
    changes(&mut text, account);
    text
}

/// Names and values; what has no value has no row.
pub(in crate::cli) fn rows(rows: &[(&str, String)]) -> String {
    let said = rows.iter().filter(|(_, value)| !value.is_empty());
    said.map(|(name, value)| format!("{name:<12} {value}\n")).collect()
}

/// A row per generation, with its receipt.
fn changes(text: &mut String, account: &Account) {
    let generations = &account.generations;
    let shown = &generations[generations.len().saturating_sub(CHANGES_SHOWN)..];
    if shown.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n{:>10}  {:<19}  {:>7}  {:<5}  {:>6}  {:>6}  {:>6}  {:>7}  {:>6}  {:>6}  {:>6}  {:>5}  reason",
        "generation",
        "began",
        "workers",
        "cause",
        "detect",
        "halt",
        "agree",
        "connect",
        "state",
        "step",
        "total",
        "again"
    );
    for GenerationAccount { at_ms, generation, members, receipt, .. } in shown {
        let begin = format!("{generation:>10}  {:<19}  {:>7}", clock(*at_ms), members.len());
        let _ = match receipt {
            Some(receipt) => writeln!(text, "{begin}  {}", costs(&receipt.what)),
            None => writeln!(text, "{begin}  -"),
        };
    }
    text.push_str("times are in ms; again: steps that were computed twice\n");
}

fn costs(receipt: &Receipt) -> String {
    let Receipt { detect_ms, halt_ms, agree_ms, connect_ms, state_ms, first_step_ms, total_ms, .. } = receipt;
    let cause = serde_json::to_value(receipt.cause).ok();
    let cause = cause.as_ref().and_then(Value::as_str).unwrap_or_default();
    format!(
        "{cause:<5}  {detect_ms:>6}  {halt_ms:>6}  {agree_ms:>6}  {connect_ms:>7}  {state_ms:>6}  \
         {first_step_ms:>6}  {total_ms:>6}  {:>5}  {}",
        receipt.steps_lost, receipt.reason
    )
}

fn pace(live: Option<&Value>) -> String {
    let ms = |key: &str| live.and_then(|live| live[key].as_f64()).filter(|ms| *ms > 0.0);
    match (ms("step_ms"), ms("exchange_ms")) {
        (Some(step), Some(exchange)) => format!(", {step:.0} ms a step, {exchange:.0} of them exchanging"),
        (Some(step), None) => format!(", {step:.0} ms a step"),
        _ => String::new(),
    }
}

/// A time of this machine's zone.
pub(in crate::cli) fn clock(Time(at_ms): Time) -> String {
    let at = i64::try_from(at_ms).ok().and_then(|at_ms| jiff::Timestamp::from_millisecond(at_ms).ok());
    let local = at.map(|at| at.to_zoned(jiff::tz::TimeZone::system()));
    local.map_or_else(|| "?".into(), |local| local.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::account::tests::running;

    #[test]
    fn a_table_is_short_and_has_the_receipts() {
        let text = table(&running(), &[]);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["run", "a"]);
        assert_eq!(rows[1].join(" "), "status running, training");
        assert_eq!(rows[2].join(" "), "position step 8, in epoch 1 of 2; 0 epochs done");
        assert!(text.contains("worker-0 on cpu, here, 50 ms a step\n"), "{text}");
        let costs = rows.iter().find(|row| row.first() == Some(&"2") && row.contains(&"loss")).unwrap();
        assert_eq!(costs[3..].join(" "), "1 loss 1 2 3 4 5 6 21 1 worker-1: its process ended");
        assert!(rows.len() < 15, "{text}");
    }
}
