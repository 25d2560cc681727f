//! What is known of the values that training does not move, until others are loaded: their digest, and their bytes in a
//! model's file. Of a ResNet50 whose head alone is trained they are 94 MB, and an epoch takes less than a second.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
use tch::Tensor;

use crate::model::{ModelError, ResNet};

/// 4 MiB: enough to amortise a transfer from a GPU, little beside the weights.
const DIGEST_CHUNK_LEN: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Unmoved {
    digest: OnceCell<[u8; 32]>,
    file: RefCell<Option<File>>,
}

/// The last one that was written.
#[derive(Debug)]
struct File {
    bytes: Vec<u8>,
    /// By name.
    places: BTreeMap<String, Range<usize>>,
}

impl Unmoved {
    /// SHA-256 over the frozen parameters and the statistics that stand still, as they lie in the flat tensors.
    pub(super) fn digest(&self, model: &ResNet) -> [u8; 32] {
        let compute = || {
            let mut hash = Sha256::new();
            add(&mut hash, model.frozen(), 0..model.frozen().numel());
            let mut start = 0;
            for moving in model.moving_statistics() {
                add(&mut hash, model.statistics(), start..moving.start);
                start = moving.end;
            }
            add(&mut hash, model.statistics(), start..model.statistics().numel());
            hash.finalize().into()
        };
        *self.digest.get_or_init(compute)
    }

    /// SHA-256 over what training moves, as it lies in the flat tensors, and [`Self::digest`]. Equal for replicas of one
    /// recipe at one position that hold the same bits.
    pub(super) fn weights_digest(&self, model: &ResNet) -> [u8; 32] {
        let mut hash = Sha256::new();
        add(&mut hash, model.trainable(), 0..model.trainable().numel());
        for moving in model.moving_statistics() {
            add(&mut hash, model.statistics(), moving);
        }
        hash.update(self.digest(model));
        hash.finalize().into()
    }

    /// The model's `state_dict` as a safetensors file, a function of its values. Where no statistics move, only the
    /// trained parameters are written anew.
    pub(super) fn file(&self, model: &ResNet) -> Result<Vec<u8>, ModelError> {
        // `format: pt` is what other readers of torchvision's names look for.
        let whole = || model.state_to_safetensors(Some(("format", "pt")));
        if model.frozen().numel() == 0 || !model.moving_statistics().is_empty() {
            return whole();
        }
        let mut kept = self.file.borrow_mut();
        let file = match &mut *kept {
            Some(file) => {
                file.lay(&model.named_moving(model.trainable(), model.statistics()));
                file
            }
            none => none.insert(File::new(whole()?)?),
        };
        Ok(file.bytes.clone())
    }
}

impl File {
    fn new(bytes: Vec<u8>) -> Result<Self, ModelError> {
        let (header_bytes, header) = SafeTensors::read_metadata(&bytes)?;
        let start = size_of::<u64>() + header_bytes;
        let place = |(from, to): (usize, usize)| start + from..start + to;
        let tensors = header.tensors();
        let places = tensors.iter().map(|(name, tensor)| (name.clone(), place(tensor.data_offsets)));
        Ok(Self { places: places.collect(), bytes })
    }

    fn lay(&mut self, tensors: &[(String, Tensor)]) {
        for (name, tensor) in tensors {
            tensor.copy_data_u8(&mut self.bytes[self.places[name].clone()], tensor.numel());
        }
    }
}

fn add(hash: &mut Sha256, flat: &Tensor, range: Range<usize>) {
    let mut bytes = vec![0; DIGEST_CHUNK_LEN.min(range.len()) * size_of::<f32>()];
    for start in range.clone().step_by(DIGEST_CHUNK_LEN) {
        let len = DIGEST_CHUNK_LEN.min(range.end - start);
        flat.narrow(0, start as i64, len as i64).copy_data_u8(&mut bytes, len);
        hash.update(&bytes[..len * size_of::<f32>()]);
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::model::{Freezing, FrozenBatchNorm, ModelName, ModelSpec, Trainable};

    fn model(trained: &[&str]) -> ResNet {
        let trainable = Trainable::Named(trained.iter().map(|&name| name.to_owned()).collect());
        let freezing = Freezing { trainable, frozen_batch_norm: FrozenBatchNorm::Eval };
        let mut model = ResNet::new(ModelSpec::new(ModelName::Resnet18, 3), &freezing, Device::Cpu).unwrap();
        model.init(7);
        model
    }

    fn train(model: &mut ResNet) {
        let _ = model.trainable_mut().g_add_scalar_(0.25);
        let twos = model.statistics().full_like(2.0);
        model.move_statistics(&twos, 0.5);
    }

    #[test]
    fn a_file_of_which_part_is_kept_is_that_of_the_values() {
        for trained in [&["fc.weight", "layer4.1.conv2.weight"][..], &["fc.bias", "layer4.1.bn2.bias"]] {
            let (mut model, unmoved) = (model(trained), Unmoved::default());
            for _ in 0..3 {
                let expected = model.state_to_safetensors(Some(("format", "pt"))).unwrap();
                assert!(unmoved.file(&model).unwrap() == expected, "{trained:?}");
                train(&mut model);
            }
        }
    }

    #[test]
    fn digests_tell_what_moves_from_what_does_not() {
        let (mut model, unmoved) = (model(&["fc.weight", "layer4.1.bn2.bias"]), Unmoved::default());
        let [frozen, weights] = [unmoved.digest(&model), unmoved.weights_digest(&model)];
        train(&mut model);
        let afresh = Unmoved::default();
        assert_eq!(afresh.digest(&model), frozen, "training leaves it alone");
        assert_ne!(afresh.weights_digest(&model), weights);
        let state = model.state();
        let mut statistic =
            state.iter().find(|(name, _)| name == "bn1.running_mean").unwrap().1.shallow_clone();
        let _ = statistic.g_add_scalar_(1.0);
        model.load_state(&state, crate::model::HeadPolicy::Strict).unwrap();
        assert_ne!(Unmoved::default().digest(&model), frozen);
    }
}
