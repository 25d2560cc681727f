//! What will be trained, stage by stage, for the person who is about to wait for it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{FreezingSettings, Phase};
use crate::model::{self, LayerKind, Parameter, Stage, grouped};
use crate::recipe::FrozenBatchNorm;

/// A table per phase: of each stage the parameters, the trained ones, what its BatchNorm layers normalise with, and the
/// learning rate before the schedule's factor. Aligned plain text of at most 100 columns, lines ended.
#[must_use]
pub fn table(settings: &FreezingSettings, classes: u32, phases: &[Phase]) -> String {
    let parameters = model::parameters(settings.model, classes);
    let mut text = String::new();
    for (index, phase) in phases.iter().enumerate() {
        if phases.len() > 1 {
            let next = phases.get(index + 1).map(|next| next.epoch);
            let blank_line = if index > 0 { "\n" } else { "" };
            let _ = writeln!(text, "{blank_line}{}:", epochs(phase.epoch, next));
        }
        text.push_str(&one_phase(&parameters, phase, settings.frozen_batch_norm));
    }
    text
}

/// Counted from 1, as progress is.
fn epochs(first: u32, next_phase: Option<u32>) -> String {
    match next_phase {
        None => format!("from epoch {}", first + 1),
        Some(next) if next == first + 1 => format!("epoch {next}"),
        Some(next) => format!("epochs {} to {next}", first + 1),
    }
}

/// A stage of a phase, or all of them.
#[derive(Default)]
struct Row {
    parameters: u64,
    trained: u64,
    /// BatchNorm layers that use the batch's statistics, and those that use the running ones.
    by_batch: usize,
    by_running: usize,
    rates: Vec<f64>,
}

fn one_phase(parameters: &[Parameter], phase: &Phase, policy: FrozenBatchNorm) -> String {
    let rates: BTreeMap<&str, f64> = phase
        .groups
        .iter()
        .flat_map(|group| group.parameters.iter().map(|name| (name.as_str(), group.lr)))
        .collect();
    let mut cells = vec![
        ["stage", "parameters", "trained", "share", "batch norm uses", "learning rate"].map(str::to_owned),
    ];
    let stages = Stage::ALL.map(|stage| (stage.as_str(), Some(stage)));
    for (label, stage) in stages.into_iter().chain([("total", None)]) {
        let within = |parameter: &&Parameter| stage.is_none_or(|stage| parameter.stage == stage);
        let row = Row::new(parameters.iter().filter(within), &rates, policy);
        cells.push([
            label.to_owned(),
            grouped(row.parameters),
            grouped(row.trained),
            format!("{:.1} %", 100.0 * row.trained as f64 / row.parameters as f64),
            row.batch_norm(),
            row.learning_rate(),
        ]);
    }
    aligned(&cells)
}

impl Row {
    fn new<'a>(
        parameters: impl Iterator<Item = &'a Parameter>,
        rates: &BTreeMap<&str, f64>,
        policy: FrozenBatchNorm,
    ) -> Self {
        let mut row = Self::default();
        // A BatchNorm layer counts as trained where its weight or its bias is.
        let mut norms: BTreeMap<&str, bool> = BTreeMap::new();
        for parameter in parameters {
            let rate = rates.get(parameter.name.as_str());
            row.parameters += parameter.values();
            row.trained += rate.map_or(0, |_| parameter.values());
            row.rates.extend(rate);
            if parameter.kind == LayerKind::BatchNorm {
                *norms.entry(parameter.module()).or_default() |= rate.is_some();
            }
        }
        row.by_batch = norms.values().filter(|trained| **trained || policy == FrozenBatchNorm::Train).count();
        row.by_running = norms.len() - row.by_batch;
        row
    }

    fn batch_norm(&self) -> String {
        match (self.by_batch, self.by_running) {
            (0, 0) => "-".to_owned(),
            (_, 0) => "batch statistics".to_owned(),
            (0, _) => "running statistics".to_owned(),
            (batch, running) => format!("batch {batch}, running {running}"),
        }
    }

    fn learning_rate(&self) -> String {
        let Some(first) = self.rates.first() else { return "-".to_owned() };
        let least = self.rates.iter().copied().fold(*first, f64::min);
        let most = self.rates.iter().copied().fold(*first, f64::max);
        if least == most { rate(least) } else { format!("{} to {}", rate(least), rate(most)) }
    }
}

/// At most six digits that count, so that the widest table still fits.
fn rate(rate: f64) -> String {
    let rounded: f64 = format!("{rate:.5e}").parse().unwrap_or(rate);
    if (1e-4..1e6).contains(&rounded) { rounded.to_string() } else { format!("{rounded:e}") }
}

/// Names to the left, numbers to the right, two blanks between columns, none at a line's end.
fn aligned(cells: &[[String; 6]]) -> String {
    const RIGHT: [bool; 6] = [false, true, true, true, false, false];
    let width: [usize; 6] =
        std::array::from_fn(|column| cells.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let mut text = String::new();
    for row in cells {
        let line: Vec<String> = row
            .iter()
            .zip(width)
            .zip(RIGHT)
            .map(
                |((cell, width), right)| {
                    if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                },
            )
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
