//! A checkpoint's two files, as pure functions of the values: two members at the same position write the same bytes.
//!
//! `model.safetensors` holds the model by torchvision's names. `optimizer.safetensors` holds the optimizer's state by
//! parameter, and the trainer's own under `trainer.`: where it stood, and what it had done of the epoch.

use tch::Tensor;

use crate::data::ledger::EpochLedger;
use crate::model::{tensors_from_safetensors, tensors_to_safetensors};
use crate::plan::Position;

use super::epoch::EpochState;
use super::error::TrainerError;
use super::message::CheckpointFiles;
use super::metrics::Metrics;
use super::replica::Replica;

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
    // `format: pt` is what other readers of torchvision's names look for.
    let model = replica.model.state_to_safetensors(Some(("format", "pt"))).map_err(TrainerError::Model)?;
    let mut state = replica.optimizer.named_state(&replica.model);
    let named = |name: &str, values: &[i64]| (name.to_owned(), Tensor::from_slice(values));
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
    let (own, optimizer): (Vec<_>, Vec<_>) =
        tensors.into_iter().partition(|(name, _)| name.starts_with("trainer."));
    let loaded = replica.optimizer.load_named_state(&replica.model, &optimizer);
    loaded.map_err(|error| refuse(error.to_string()))?;
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
    use crate::plan;

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

    #[test]
    fn a_checkpoint_brings_everything_back_and_writes_the_same_bytes_again() {
        let plan = plan::sample();
        let mut first = Replica::new(&plan, Device::Cpu).unwrap();
        first.initialise(1, None).unwrap();
        let gradient = first.model.trainable().ones_like();
        let statistics = first.model.statistics().ones_like();
        first.update(&gradient, &statistics, 0.1);
        let mut epoch = EpochState::new(&[1, 2, 3, 4], 0);
        epoch.train = Metrics { loss_sum: 0.1 + 0.2, correct: 1, count: 2 };
        epoch.ledger.record(&[1, 3]);
        let position = Position { epoch: 3, step: 7 };
        let files = save(&first, position, &epoch).unwrap();

        let mut second = Replica::new(&plan, Device::Cpu).unwrap();
        assert_eq!(load(&mut second, position, &files).unwrap(), epoch);
        assert_eq!(second.model.weights_digest(), first.model.weights_digest());
        assert!(save(&second, position, &epoch).unwrap() == files);

        first.update(&gradient, &statistics, 0.1);
        second.update(&gradient, &statistics, 0.1);
        assert_eq!(second.model.weights_digest(), first.model.weights_digest(), "the momentum came along");

        let elsewhere = load(&mut second, Position { epoch: 3, step: 8 }, &files);
        assert!(elsewhere.unwrap_err().to_string().contains("checkpoint of step 8"));
    }
}
