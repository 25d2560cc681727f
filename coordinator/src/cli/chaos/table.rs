//! The report as a person reads it: a line per fault and per change of membership that followed, a line per file.

use std::fmt::Write as _;

use lockstep_core::{Cause, Receipt};

use super::super::console::counted;
use crate::chaos::{Report, Struck};

/// Columns of numbers: what each phase of a change took in milliseconds, then the steps that it cost.
const PHASES: [&str; 7] = ["detect", "halt", "agree", "connect", "state", "step", "lost"];

pub(super) fn text(report: &Report) -> String {
    let Report { name, seed, workers, steps, faults_planned, .. } = report;
    let mut text = format!(
        "{name}: {}, {}, {} of {faults_planned} faults of seed {seed}; {:.1} s undisturbed, {:.1} s disturbed\n\n",
        counted(*steps, "step"),
        counted(*workers, "worker"),
        report.faults.len(),
        report.calm_ms as f64 / 1e3,
        report.chaos_ms as f64 / 1e3
    );
    let mut rows = vec![heading()];
    for (index, struck) in report.faults.iter().enumerate() {
        rows.extend(of_fault(index + 1, struck));
    }
    text.push_str(&aligned(&rows));
    text.push_str("\nTimes in ms; lost: steps computed again.\n\n");
    for file in &report.files {
        // Writing to a String cannot fail.
        let _ = match &file.difference {
            None => writeln!(text, "equal    {} ({} bytes)", file.file, file.bytes),
            Some(difference) => writeln!(text, "DIFFERS  {}: {difference}", file.file),
        };
    }
    text
}

fn heading() -> Vec<String> {
    let words = ["#", "at step", "fault", "hit", "healed", "then"];
    words.into_iter().chain(PHASES).map(str::to_owned).collect()
}

/// One row for the fault with the first change that followed, one for each of the others.
fn of_fault(number: usize, struck: &Struck) -> Vec<Vec<String>> {
    let healed = struck.healed_ms.map_or_else(|| "not seen".into(), |ms| format!("{:.1} s", ms as f64 / 1e3));
    let hit = match struck.pid {
        Some(pid) => format!("{} ({pid})", struck.target),
        None => struck.target.clone(),
    };
    let begin = vec![number.to_string(), struck.step.to_string(), struck.fault.to_string(), hit, healed];
    if struck.receipts.is_empty() {
        let none = [vec!["the same members went on".to_owned()], vec![String::new(); PHASES.len()]].concat();
        return vec![[begin, none].concat()];
    }
    let blank = vec![String::new(); begin.len()];
    let begins = [begin].into_iter().chain(std::iter::repeat(blank));
    begins.zip(&struck.receipts).map(|(begin, receipt)| [begin, of_receipt(receipt)].concat()).collect()
}

fn of_receipt(receipt: &Receipt) -> Vec<String> {
    let cause = match receipt.cause {
        Cause::Start => "start",
        Cause::Join => "join",
        Cause::Leave => "leave",
        Cause::Loss => "loss",
        Cause::Link => "link",
        Cause::Stop => "stop",
    };
    let about = receipt.culprit.as_ref().map(|worker| format!(" of {worker}")).unwrap_or_default();
    let numbers = [
        receipt.detect_ms,
        receipt.halt_ms,
        receipt.agree_ms,
        receipt.connect_ms,
        receipt.state_ms,
        receipt.first_step_ms,
        receipt.steps_lost,
    ];
    let then = format!("generation {}: {cause}{about}", receipt.generation);
    [then].into_iter().chain(numbers.map(|number| number.to_string())).collect()
}

/// Words to the left, numbers to the right, each column as wide as its widest cell.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let is_number = column < 2 || column >= columns - PHASES.len();
            // Writing to a String cannot fail.
            let _ =
                if is_number { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
