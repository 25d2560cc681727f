//! Which workers of other runs somebody who lacks some may have, the ones that cost least first.

use std::ops::Range;

use super::super::stock::SlotState;
use super::super::{PoolRun, Running, Stuck};
use super::{Deal, Planner};

/// Why a run can do without some of its workers, in the order in which they are asked for.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// It has been at a halt for long, and nobody that is there can end that.
    GivenUp,
    AboveMinimum,
    /// It is at a halt, and so is one that comes before it. With what each of two has neither might ever go on.
    Halted,
}

impl Planner<'_> {
    /// Slots of `range` that the run `index` may have from others, of the last ones in order first: `most` of them, or too few.
    pub(super) fn spare(&self, index: usize, range: &Range<usize>, most: usize) -> Vec<usize> {
        let mut slots = Vec::new();
        if self.stock.count(range, SlotState::Held) < most {
            return slots;
        }
        for source in [Source::GivenUp, Source::AboveMinimum, Source::Halted] {
            for (giver, deal) in self.deals.iter().enumerate().rev() {
                if giver == index || deal.held.is_empty() {
                    continue;
                }
                let taken = |slot: &&usize| slots.contains(*slot);
                let allowed = self.allowance(source, giver, index).min(most - slots.len());
                let wanted =
                    |slot: &&usize| range.contains(*slot) && self.stock.state(**slot) == SlotState::Held;
                let mut own: Vec<usize> =
                    deal.held.iter().filter(wanted).filter(|slot| !taken(slot)).copied().collect();
                // Ranks follow the names, and rank 0 has the most to do beside its steps.
                own.sort_by(|a, b| {
                    let smaller = self.stock.memory_bytes(*a).cmp(&self.stock.memory_bytes(*b));
                    smaller.then_with(|| self.stock.name(*b).cmp(self.stock.name(*a)))
                });
                slots.extend(own.into_iter().take(allowed));
            }
        }
        slots
    }

    /// How many of its workers `giver` can do without.
    fn allowance(&self, source: Source, giver: usize, taker: usize) -> usize {
        let Deal { run: PoolRun { requirements, running, .. }, held, .. } = &self.deals[giver];
        let given_up = matches!(running, Some(Running { stuck: Some(Stuck::GivenUp), .. }));
        let both_halted = self.deals[giver].is_halted() && self.deals[taker].is_halted();
        match source {
            Source::GivenUp if given_up && self.is_out_of_reach(giver) => held.len(),
            Source::AboveMinimum => held.len().saturating_sub(requirements.least()),
            Source::Halted if both_halted && taker < giver => held.len(),
            Source::GivenUp | Source::Halted => 0,
        }
    }
}
