//! What must come out: the same training without a cluster, in one plain loop that shares nothing with the core but
//! its words.

use std::collections::BTreeMap;

use lockstep_core::{Epoch, EpochRow, LedgerRow, Metrics, Position, Restore, Split, Step};

use crate::case::Case;
use crate::replica::{EpochState, Replica, State};

/// The results of a run that nothing disturbs.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) rows: Vec<Expected>,
    /// What a replica at each position must be, before and after verdicts.
    pub(crate) states: BTreeMap<Position, State>,
    pub(crate) tested: Option<(Step, Metrics)>,
    pub(crate) early: bool,
}

/// A row, as far as it does not depend on who worked how fast.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expected {
    pub(crate) epoch: Epoch,
    pub(crate) step: Step,
    pub(crate) learning_rate: f64,
    pub(crate) train: Metrics,
    pub(crate) eval: Metrics,
    pub(crate) ema: Option<Metrics>,
    pub(crate) improved: bool,
    pub(crate) restored: Option<Step>,
    pub(crate) ledger: LedgerRow,
    pub(crate) weights_digest: String,
}

impl Oracle {
    pub(crate) fn of(case: &Case) -> Self {
        let spec = &case.spec;
        let mut replica = Replica::initial(case);
        let mut oracle = Self { rows: Vec::new(), states: BTreeMap::new(), tested: None, early: false };
        oracle.keep(Position::default(), replica, &EpochState::new(case));
        // Accuracy, epoch, step and weights.
        let mut best: Option<(f64, u32, Step, Replica)> = None;
        for epoch in 0..spec.epochs {
            let state = oracle.train(case, &mut replica, epoch);
            let step = spec.start_of(Epoch(epoch + 1)).step;
            let eval = evaluate(case, &replica, spec.select.split);
            let improved = best.is_none_or(|(accuracy, ..)| eval.accuracy() > accuracy);
            if improved {
                best = Some((eval.accuracy(), epoch, step, replica));
            }
            let (_, best_epoch, best_step, best_replica) = best.expect("set in the first epoch");
            let impatient = spec.select.patience > 0 && epoch - best_epoch >= spec.select.patience;
            let ends = impatient || epoch + 1 == spec.epochs;
            let restores = match spec.select.restore {
                Restore::Never => false,
                Restore::End => ends && !improved,
                Restore::Epoch => !improved,
            };
            oracle.rows.push(Expected {
                epoch: Epoch(epoch),
                step,
                learning_rate: case.learning_rate(epoch),
                train: state.train,
                eval,
                ema: spec.ema.then_some(eval),
                improved,
                restored: restores.then_some(best_step),
                ledger: state.ledger(),
                weights_digest: replica.digest(),
            });
            if restores {
                replica.restore(&best_replica);
            }
            oracle.keep(spec.start_of(Epoch(epoch + 1)), replica, &EpochState::new(case));
            if ends {
                oracle.early = epoch + 1 < spec.epochs;
                if spec.test_samples > 0 && spec.select.split != Split::Test {
                    oracle.tested = Some((best_step, evaluate(case, &best_replica, Split::Test)));
                }
                break;
            }
        }
        oracle
    }

    /// An epoch's steps.
    fn train(&mut self, case: &Case, replica: &mut Replica, epoch: u32) -> EpochState {
        let mut state = EpochState::new(case);
        let mut position = case.spec.start_of(Epoch(epoch));
        for _ in 0..case.spec.steps_per_epoch {
            let accounts: Vec<_> =
                (0..case.spec.shards).map(|shard| replica.shard(case, position, shard)).collect();
            replica.update(&accounts);
            state.record(&accounts);
            position.step.0 += 1;
            self.keep(position, *replica, &state);
        }
        state
    }

    /// Where all is over.
    pub(crate) fn end(&self) -> Position {
        self.states.keys().next_back().copied().unwrap_or_default()
    }

    /// The step of the best epoch before `epoch`.
    pub(crate) fn best_before(&self, epoch: Epoch) -> Option<Step> {
        let earlier = self.rows.iter().take_while(|row| row.epoch < epoch);
        earlier.filter(|row| row.improved).last().map(|row| row.step)
    }

    fn keep(&mut self, position: Position, replica: Replica, epoch: &EpochState) {
        let state = State { position, replica, epoch: epoch.clone(), makers: Default::default() };
        self.states.insert(position, state);
    }
}

impl From<&EpochRow> for Expected {
    fn from(row: &EpochRow) -> Self {
        Self {
            epoch: row.epoch,
            step: row.step,
            learning_rate: row.learning_rate,
            train: row.train,
            eval: row.eval,
            ema: row.ema,
            improved: row.improved,
            restored: row.restored,
            ledger: row.ledger.clone(),
            weights_digest: row.weights_digest.clone(),
        }
    }
}

fn evaluate(case: &Case, replica: &Replica, split: Split) -> Metrics {
    let mut sum = Metrics::default();
    for (block, count) in (0..).zip(case.blocks(split)) {
        sum.add(&replica.evaluate(split, block, count));
    }
    sum
}
