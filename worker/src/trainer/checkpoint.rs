//! A checkpoint's two files, as pure functions of the values: two members at the same position write the same bytes.
//!
//! `model.safetensors` holds the model by torchvision's names. `optimizer.safetensors` holds the optimizer's state by
//! parameter, the running average of the weights under `ema.`, and the trainer's own under `trainer.`: where it stood, and
//! what it had done of the epoch.

use tch::Tensor;

use crate::data::ledger::EpochLedger;
use crate::model::{tensors_from_safetensors, tensors_to_safetensors};
use crate::plan::Position;

use super::epoch::EpochState;
use super::error::TrainerError;
use super::message::CheckpointFiles;
use super::metrics::Metrics;
use super::replica::Replica;

/// Before a `state_dict` name: what training moves, as [`Ema`] has it.
///
/// [`Ema`]: super::ema::Ema
const AVERAGE: &str = "ema.";
/// i64 [2]: epoch, step.
const POSITION: &str = "trainer.position";
/// i64 [3]: the bits of the loss sum (f64), correct, count.
const METRICS: &str = "trainer.epoch_metrics";
/// i64 [n]: the length in bytes, then the bytes, eight to a number and padded with zeros. The files hold f32 and i64 only.
const LEDGER: &str = "trainer.epoch_ledger";

/// The files of a checkpoint at `position`.
pub(super) fn save(
    replica: &Replica,
    position: Position,
    epoch: &EpochState,
) -> Result<CheckpointFiles, TrainerError> {
    let model = replica.model_file().map_err(TrainerError::Model)?;
    let mut state = replica.optimizer.named_state(&replica.model);
    let named = |name: &str, values: &[i64]| (name.to_owned(), Tensor::from_slice(values));
    if let Some(ema) = &replica.ema {
        let average = ema.named(&replica.model).into_iter();
        state.extend(average.map(|(name, tensor)| (format!("{AVERAGE}{name}"), tensor)));
    }
    state.push(named(POSITION, &[i64::from(position.epoch), position.step as i64]));
    let Metrics { loss_sum, correct, count } = epoch.train;
    state.push(named(METRICS, &[loss_sum.to_bits() as i64, correct as i64, count as i64]));
    state.push(named(LEDGER, &pack(&epoch.ledger.to_bytes())));
    let optimizer = tensors_to_safetensors(&state, None).map_err(TrainerError::Model)?;
    Ok(CheckpointFiles { model, optimizer })
}

/// Sets `replica` to a checkpoint of `position`, and returns what had been done of the epoch.
pub(super) fn load(
    replica: &mut Replica,
    position: Position,
    files: &CheckpointFiles,
) -> Result<EpochState, TrainerError> {
    let step = position.step;
    let refuse = |reason: String| TrainerError::Checkpoint { step, reason };
    replica.restore(&files.model)?;
    let tensors = tensors_from_safetensors(&files.optimizer).map_err(|error| refuse(error.to_string()))?;
    let (own, tensors): (Vec<_>, Vec<_>) =
        tensors.into_iter().partition(|(name, _)| name.starts_with("trainer."));
    let (average, optimizer): (Vec<_>, Vec<_>) =
        tensors.into_iter().partition(|(name, _)| replica.ema.is_some() && name.starts_with(AVERAGE));
    let loaded = replica.optimizer.load_named_state(&replica.model, &optimizer);
    loaded.map_err(|error| refuse(error.to_string()))?;
    load_average(replica, average).map_err(refuse)?;
    let find = |name: &str| {
        let (_, tensor) = own.iter().find(|(known, _)| known == name)?;
        Vec::<i64>::try_from(tensor).ok()
    };
    if find(POSITION) != Some(vec![i64::from(position.epoch), step as i64]) {
        return Err(refuse(format!("it stands at {:?}, not at epoch {}", find(POSITION), position.epoch)));
    }
    let metrics = find(METRICS).ok_or_else(|| refuse(format!("{METRICS} is missing")))?;
    let &[loss_sum, correct, count] = metrics.as_slice() else {
        return Err(refuse(format!("{METRICS} has {} values", metrics.len())));
    };
    let train =
        Metrics { loss_sum: f64::from_bits(loss_sum as u64), correct: correct as u64, count: count as u64 };
    let bytes = find(LEDGER)
        .and_then(|words| unpack(&words))
        .ok_or_else(|| refuse(format!("{LEDGER} is damaged")))?;
    let ledger = EpochLedger::from_bytes(&bytes).map_err(|error| refuse(error.to_string()))?;
    Ok(EpochState { train, ledger })
}

/// Parameters that have been freed since it was saved start from their values.
fn load_average(replica: &mut Replica, average: Vec<(String, Tensor)>) -> Result<(), String> {
    let Some(ema) = &mut replica.ema else { return Ok(()) };
    if average.is_empty() {
        return Err("the running average of the weights is missing".to_owned());
    }
    let plain = |(name, tensor): (String, Tensor)| (name[AVERAGE.len()..].to_owned(), tensor);
    let average: Vec<_> = average.into_iter().map(plain).collect();
    ema.load(&replica.model, &average).map_err(|error| format!("the running average: {error}"))
}

fn pack(bytes: &[u8]) -> Vec<i64> {
    let word = |chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        i64::from_le_bytes(word)
    };
    std::iter::once(bytes.len() as i64).chain(bytes.chunks(8).map(word)).collect()
}

fn unpack(words: &[i64]) -> Option<Vec<u8>> {
    let (length, words) = words.split_first()?;
    let length = usize::try_from(*length).ok()?;
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    if length > bytes.len() || bytes.len() - length >= 8 {
        return None;
    }
    bytes.truncate(length);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::plan::{self, GroupPlan, OptimizerKind, PhasePlan, Plan};

    #[test]
    fn bytes_of_any_length_survive_packing() {
        for length in 0..20_u8 {
            let bytes: Vec<u8> = (0..length).map(|at| at ^ 0xa5).collect();
            assert_eq!(unpack(&pack(&bytes)), Some(bytes));
        }
        assert_eq!(unpack(&[]), None);
        assert_eq!(unpack(&[9, 0]), None);
        assert_eq!(unpack(&[-1, 0]), None);
    }

    /// A plan with all that has a state, whose second phase frees more than its first.
    fn plan() -> Plan {
        let mut plan = plan::sample();
        plan.optimizer.kind = OptimizerKind::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
        plan.train.ema_decay = Some(0.75);
        let all = plan.train.phases[0].groups[0].clone();
        let head = GroupPlan { parameters: vec!["fc.weight".to_owned()], ..all.clone() };
        let phase = |epoch, group| PhasePlan { epoch, groups: vec![group] };
        plan.train.phases = vec![phase(0, head), phase(3, all)];
        plan
    }

    fn train(replica: &mut Replica, position: Position) {
        let gradient = replica.model.trainable().ones_like();
        let statistics = replica.model.statistics().ones_like();
        replica.update(&gradient, &statistics, position);
    }

    fn replica(plan: &Plan, epoch: u32) -> Replica {
        let mut replica = Replica::new(plan, epoch, Device::Cpu).unwrap();
        replica.initialise(1, None).unwrap();
        replica
    }

    fn begun() -> EpochState {
        let mut epoch = EpochState::new(&[1, 2, 3, 4], 0);
        epoch.train = Metrics { loss_sum: 0.1 + 0.2, correct: 1, count: 2 };
        epoch.ledger.record(&[1, 3]);
        epoch
    }

    #[test]
    fn a_checkpoint_brings_everything_back_and_writes_the_same_bytes_again() {
        let adamw = plan();
        let sgd = Plan { optimizer: plan::sample().optimizer, ..plan() };
        for plan in [adamw, sgd] {
            let position = Position { epoch: 3, step: 7 };
            let mut first = replica(&plan, position.epoch);
            train(&mut first, Position { epoch: 3, step: 6 });
            let epoch = begun();
            let files = save(&first, position, &epoch).unwrap();

            let mut second = Replica::new(&plan, position.epoch, Device::Cpu).unwrap();
            assert_eq!(load(&mut second, position, &files).unwrap(), epoch);
            assert_eq!(second.model.weights_digest(), first.model.weights_digest());
            assert!(save(&second, position, &epoch).unwrap() == files);

            train(&mut first, position);
            train(&mut second, position);
            let next = Position { epoch: 3, step: 8 };
            let [first, second_files] = [&first, &second].map(|replica| save(replica, next, &epoch).unwrap());
            assert!(first == second_files, "the optimizer's state and the running average came along");

            let elsewhere = load(&mut second, next, &files);
            assert!(elsewhere.unwrap_err().to_string().contains("checkpoint of step 8"));
        }
    }

    #[test]
    fn a_checkpoint_between_two_phases_is_the_same_from_either_side() {
        let plan = plan();
        let position = plan.start_of(3);
        let mut replica = replica(&plan, 2);
        train(&mut replica, Position { epoch: 2, step: position.step - 1 });
        let epoch = begun();
        let before = save(&replica, position, &epoch).unwrap();
        assert!(replica.enter(&plan, 3).unwrap());
        assert!(!replica.enter(&plan, 3).unwrap());
        let after = save(&replica, position, &epoch).unwrap();
        assert!(before.model == after.model && before.optimizer != after.optimizer);
        train(&mut replica, position);
        let next = Position { epoch: 3, step: position.step + 1 };
        let expected = save(&replica, next, &epoch).unwrap();
        for files in [before, after] {
            let mut resumed = Replica::new(&plan, 3, Device::Cpu).unwrap();
            load(&mut resumed, position, &files).unwrap();
            train(&mut resumed, position);
            assert!(save(&resumed, next, &epoch).unwrap() == expected);
        }
    }

    #[test]
    fn the_average_is_saved_by_name_and_missed_where_the_plan_wants_it() {
        let with = plan();
        let mut without = plan();
        without.train.ema_decay = None;
        let position = Position { epoch: 0, step: 1 };
        let files = |plan: &Plan| save(&replica(plan, 0), position, &begun()).unwrap();
        let tensors = tensors_from_safetensors(&files(&with).optimizer).unwrap();
        let average: Vec<_> = tensors.iter().filter(|(name, _)| name.starts_with(AVERAGE)).collect();
        let [(name, tensor)] = average.as_slice() else { panic!("{average:?}") };
        assert_eq!((name.as_str(), tensor.size()), ("ema.fc.weight", vec![3, 512]));

        let load =
            |plan: &Plan, files| load(&mut replica(plan, 0), position, &files).unwrap_err().to_string();
        let missing = "the checkpoint of step 1: the running average of the weights is missing";
        assert_eq!(load(&with, files(&without)), missing);
        assert!(load(&without, files(&with)).contains("\"ema.fc.weight\" belongs to another optimizer"));
    }
}
