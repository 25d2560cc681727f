//! What must come out: the same training without a cluster, in one plain loop that shares nothing with the core but
//! its words.

use std::collections::BTreeMap;

use lockstep_core::{Epoch, LedgerRow, Metrics, Position, Restore, Split, Step};

use crate::case::Case;
use crate::replica::{EpochState, Replica, Snapshot};

/// The results of a run that nothing disturbs.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) rows: Vec<Expected>,
    /// What a checkpoint of each step must hold, verdicts included.
    pub(crate) snapshots: BTreeMap<Step, Snapshot>,
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
        let mut oracle = Self { rows: Vec::new(), snapshots: BTreeMap::new(), tested: None, early: false };
        // Accuracy, epoch, step and weights.
        let mut best: Option<(f64, u32, Step, Replica)> = None;
        for epoch in 0..spec.epochs {
            let mut state = EpochState::new(case);
            for step in 0..spec.steps_per_epoch {
                let step = u64::from(epoch) * spec.steps_per_epoch + step;
                let position = Position { epoch: Epoch(epoch), step: Step(step) };
                let accounts: Vec<_> =
                    (0..spec.shards).map(|shard| replica.shard(case, position, shard)).collect();
                replica.update(&accounts);
                state.record(&accounts);
                oracle.keep(Position { step: Step(step + 1), ..position }, replica, &state);
            }
            let step = Step(u64::from(epoch + 1) * spec.steps_per_epoch);
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
            oracle.keep(Position { epoch: Epoch(epoch + 1), step }, replica, &EpochState::new(case));
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

    fn keep(&mut self, position: Position, replica: Replica, epoch: &EpochState) {
        self.snapshots.insert(position.step, Snapshot { position, replica, epoch: epoch.clone() });
    }
}

fn evaluate(case: &Case, replica: &Replica, split: Split) -> Metrics {
    let mut sum = Metrics::default();
    for (block, count) in (0..).zip(case.blocks(split)) {
        sum.add(&replica.evaluate(split, block, count));
    }
    sum
}
