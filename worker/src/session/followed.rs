//! Which orders have been followed already. The coordinator says everything again until a heartbeat shows that it has
//! arrived, so a repetition must change nothing; and what belongs to a generation that is over must be passed over.

use crate::client::{EvaluateOrder, VerdictOrder};

/// The newest orders that were taken up. Numbers of generations only rise.
#[derive(Debug, Default)]
pub(super) struct Followed {
    prepared: u64,
    begun: u64,
    /// Of the generation begun.
    judged: Option<u32>,
    evaluated: Option<EvaluateOrder>,
}

/// What a Prepare asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pause {
    /// Make the generation under way stop: at once, or by the flag.
    pub(super) now: bool,
    /// The trainer has not been told yet.
    pub(super) is_new: bool,
}

/// What an Evaluate asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evaluation {
    Compute,
    /// It is being computed, or its report may have been lost.
    Report,
    Nothing,
}

impl Followed {
    /// The newest generation that was begun; 0: none.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// None when it has been overtaken. One that wants the pause now may follow a patient one of the same number.
    pub(super) fn prepare(&mut self, generation: u64, now: bool) -> Option<Pause> {
        if generation <= self.begun || generation < self.prepared {
            return None;
        }
        let is_new = generation > self.prepared;
        self.prepared = generation;
        Some(Pause { now, is_new })
    }

    /// Whether it is to be begun. Not below one prepared: a coordinator that has taken over numbers above whatever the
    /// heartbeats show of its predecessor's.
    pub(super) fn begin(&mut self, generation: u64) -> bool {
        if generation <= self.begun || generation < self.prepared {
            return false;
        }
        (self.prepared, self.begun) = (generation, generation);
        (self.judged, self.evaluated) = (None, None);
        true
    }

    /// Whether the trainer has been told to make room for this generation.
    pub(super) fn is_prepared(&self, generation: u64) -> bool {
        generation <= self.prepared
    }

    /// Whether it is to be carried out.
    pub(super) fn verdict(&mut self, verdict: &VerdictOrder) -> bool {
        if !self.is_current(verdict.generation) || self.judged.is_some_and(|judged| verdict.epoch <= judged) {
            return false;
        }
        self.judged = Some(verdict.epoch);
        true
    }

    pub(super) fn evaluate(&mut self, order: EvaluateOrder) -> Evaluation {
        if !self.is_current(order.generation) {
            return Evaluation::Nothing;
        }
        if self.evaluated.replace(order) == Some(order) { Evaluation::Report } else { Evaluation::Compute }
    }

    /// It has begun and is not to pause.
    fn is_current(&self, generation: u64) -> bool {
        generation == self.begun && self.prepared == self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Split;

    fn verdict(generation: u64, epoch: u32) -> VerdictOrder {
        VerdictOrder { generation, epoch, restore_step: None, save: false, keep: false, hold: false }
    }

    #[test]
    fn repeated_and_overtaken_orders_change_nothing() {
        let mut followed = Followed::default();
        assert_eq!(followed.prepare(2, false), Some(Pause { now: false, is_new: true }));
        assert_eq!(followed.prepare(2, false), Some(Pause { now: false, is_new: false }));
        assert_eq!(followed.prepare(1, true), None);
        assert!(followed.begin(2) && !followed.begin(2) && !followed.begin(1));
        assert_eq!(followed.prepare(2, true), None);
        assert!(followed.verdict(&verdict(2, 0)) && !followed.verdict(&verdict(2, 0)));
        assert!(!followed.verdict(&verdict(1, 1)) && followed.verdict(&verdict(2, 1)));
        let order = EvaluateOrder { generation: 2, split: Split::Test, weights_step: 7 };
        assert_eq!(followed.evaluate(order), Evaluation::Compute);
        assert_eq!(followed.evaluate(order), Evaluation::Report);
        assert_eq!(followed.evaluate(EvaluateOrder { weights_step: 8, ..order }), Evaluation::Compute);
    }

    #[test]
    fn a_patient_pause_can_become_one_at_once_and_the_trainer_hears_of_it_once() {
        let mut followed = Followed::default();
        assert!(followed.begin(1));
        assert_eq!(followed.prepare(2, false), Some(Pause { now: false, is_new: true }));
        assert_eq!(followed.prepare(2, true), Some(Pause { now: true, is_new: false }));
    }

    #[test]
    fn what_belongs_to_a_generation_that_pauses_is_passed_over() {
        let mut followed = Followed::default();
        assert!(followed.begin(1));
        followed.prepare(2, false);
        assert!(!followed.verdict(&verdict(1, 0)));
        let order = EvaluateOrder { generation: 1, split: Split::Test, weights_step: 7 };
        assert_eq!(followed.evaluate(order), Evaluation::Nothing);
    }

    #[test]
    fn what_was_prepared_is_not_gone_back_behind() {
        let mut followed = Followed::default();
        assert!(followed.begin(3));
        followed.prepare(9, true);
        assert!(!followed.begin(5) && followed.begun() == 3);
        assert!(followed.begin(9) && followed.verdict(&verdict(9, 0)));
    }
}
