//! Weights in and out under torchvision's names: `state_dict` and back.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::layout::{NormSlot, Slot, signed};
use super::{HeadPolicy, LoadReport, ModelError, ResNet, Shape, file};

/// 4 MiB: enough to amortise a transfer from a GPU, little beside the weights.
const DIGEST_CHUNK_LEN: usize = 1 << 20;

/// One entry of `state_dict`.
pub(super) enum Entry<'a> {
    Parameter(&'a Slot),
    Mean(&'a NormSlot),
    Variance(&'a NormSlot),
    /// `num_batches_tracked` of the layer of this number.
    Tracked(usize, &'a NormSlot),
}

impl Entry<'_> {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Parameter(slot) => slot.name.clone(),
            Self::Mean(norm) => format!("{}.running_mean", norm.name),
            Self::Variance(norm) => format!("{}.running_var", norm.name),
            Self::Tracked(_, norm) => format!("{}.num_batches_tracked", norm.name),
        }
    }

    pub(super) fn shape(&self) -> Vec<i64> {
        match self {
            Self::Parameter(slot) => slot.shape.clone(),
            Self::Mean(norm) | Self::Variance(norm) => vec![signed(norm.channels)],
            Self::Tracked(..) => vec![],
        }
    }

    fn kind(&self) -> Kind {
        if matches!(self, Self::Tracked(..)) { Kind::Int64 } else { Kind::Float }
    }
}

/// The flat tensors on the host, to be read or filled.
struct Host {
    trainable: Tensor,
    frozen: Tensor,
    statistics: Tensor,
}

impl Host {
    /// The entry's place in the flat tensors; none for a counter.
    fn view(&self, entry: &Entry<'_>) -> Option<Tensor> {
        match entry {
            Entry::Parameter(slot) if slot.trainable => Some(slot.view(&self.trainable)),
            Entry::Parameter(slot) => Some(slot.view(&self.frozen)),
            Entry::Mean(norm) => Some(norm.mean(&self.statistics)),
            Entry::Variance(norm) => Some(norm.variance(&self.statistics)),
            Entry::Tracked(..) => None,
        }
    }
}

impl ResNet {
    /// The `state_dict`: torchvision's names, order and shapes; contiguous copies on the CPU.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let host = self.host();
        let tensor = |entry: &Entry<'_>| match entry {
            Entry::Tracked(index, _) => Tensor::from(self.batches_tracked[*index]),
            _ => contiguous_copy(&host.view(entry).expect("all but counters are in the flat tensors")),
        };
        self.entries().iter().map(|entry| (entry.name(), tensor(entry))).collect()
    }

    /// Takes over a `state_dict`. All is checked before anything changes.
    ///
    /// # Errors
    /// A tensor that is missing (but for `num_batches_tracked`, which older files lack and which then starts at 0), of
    /// another shape or kind, given twice, or not this model's. The last catches a deeper model's weights, which would
    /// otherwise load without a word.
    pub fn load_state(
        &mut self,
        state: &[(String, Tensor)],
        head: HeadPolicy,
    ) -> Result<LoadReport, ModelError> {
        let mut given = by_name(state)?;
        let replaced_head = head == HeadPolicy::ReplaceIfClassesDiffer && self.classes_differ(&given);
        let host = Host {
            trainable: self.buffers.trainable.f_to_device(Device::Cpu)?.copy(),
            frozen: self.buffers.frozen.f_to_device(Device::Cpu)?.copy(),
            statistics: self.buffers.statistics.f_to_device(Device::Cpu)?.copy(),
        };
        let mut batches_tracked = vec![0; self.batches_tracked.len()];
        for entry in self.entries() {
            let name = entry.name();
            let tensor = given.remove(name.as_str());
            if replaced_head && matches!(entry, Entry::Parameter(slot) if slot.is_head()) {
                continue;
            }
            let tensor = match (tensor, &entry) {
                (Some(tensor), _) => tensor,
                (None, Entry::Tracked(..)) => continue,
                (None, _) => return Err(ModelError::Missing { name, expected: Shape(entry.shape()) }),
            };
            check(&name, tensor, &entry.shape(), entry.kind())?;
            match entry {
                Entry::Tracked(index, _) => batches_tracked[index] = tensor.f_int64_value(&[])?,
                _ => {
                    let mut place = host.view(&entry).expect("all but counters are in the flat tensors");
                    tch::no_grad(|| place.f_copy_(tensor))?;
                }
            }
        }
        if let Some(name) = given.keys().next() {
            return Err(self.unexpected(name));
        }
        self.take_over(&host)?;
        self.batches_tracked = batches_tracked;
        Ok(LoadReport { replaced_head })
    }

    /// The `state_dict` as a safetensors file. Equal values and metadata give equal bytes.
    pub fn state_to_safetensors(&self, metadata: Option<(&str, &str)>) -> Result<Vec<u8>, ModelError> {
        file::tensors_to_safetensors(&self.state(), metadata)
    }

    /// [`Self::load_state`] from a safetensors file.
    pub fn load_safetensors(&mut self, bytes: &[u8], head: HeadPolicy) -> Result<LoadReport, ModelError> {
        self.load_state(&file::tensors_from_safetensors(bytes)?, head)
    }

    /// SHA-256 over the parameters and running statistics as they lie in the flat tensors: trained, frozen,
    /// statistics. Equal for replicas of one recipe that hold the same bits.
    pub fn weights_digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut bytes = vec![0; DIGEST_CHUNK_LEN * size_of::<f32>()];
        for flat in [&self.buffers.trainable, &self.buffers.frozen, &self.buffers.statistics] {
            for start in (0..flat.numel()).step_by(DIGEST_CHUNK_LEN) {
                let len = DIGEST_CHUNK_LEN.min(flat.numel() - start);
                flat.narrow(0, signed(start), signed(len)).copy_data_u8(&mut bytes, len);
                hash.update(&bytes[..len * size_of::<f32>()]);
            }
        }
        hash.finalize().into()
    }

    /// In `state_dict` order: a layer's statistics follow its bias.
    pub(super) fn entries(&self) -> Vec<Entry<'_>> {
        let mut norms = self.layout.norms.iter().enumerate().peekable();
        let mut entries = Vec::new();
        for slot in &self.layout.slots {
            entries.push(Entry::Parameter(slot));
            let closes = |norm: &NormSlot| slot.name.strip_suffix(".bias") == Some(norm.name.as_str());
            if let Some((index, norm)) = norms.next_if(|(_, norm)| closes(norm)) {
                entries.extend([Entry::Mean(norm), Entry::Variance(norm), Entry::Tracked(index, norm)]);
            }
        }
        entries
    }

    fn host(&self) -> Host {
        let fetch = |flat: &Tensor| flat.to_device(Device::Cpu);
        Host {
            trainable: fetch(&self.buffers.trainable),
            frozen: fetch(&self.buffers.frozen),
            statistics: fetch(&self.buffers.statistics),
        }
    }

    fn take_over(&mut self, host: &Host) -> Result<(), ModelError> {
        tch::no_grad(|| {
            self.buffers.trainable.f_copy_(&host.trainable)?;
            self.buffers.frozen.f_copy_(&host.frozen)?;
            self.buffers.statistics.f_copy_(&host.statistics)?;
            // A diverged run may have left NaN here, and momentum 1 would keep it: 0 * NaN is NaN.
            let _ = self.buffers.shard_statistics.f_zero_()?;
            self.buffers.changed();
            Ok(())
        })
    }

    /// Whether the given head fits this network but for the number of classes.
    fn classes_differ(&self, given: &BTreeMap<&str, &Tensor>) -> bool {
        let shape = |name| given.get(name).map(|tensor| tensor.size());
        let (Some(weight), Some(bias)) = (shape("fc.weight"), shape("fc.bias")) else { return false };
        match (&weight[..], &bias[..]) {
            (&[outputs, inputs], &[biases]) => {
                inputs == self.architecture.features && outputs == biases && outputs != self.spec.classes
            }
            _ => false,
        }
    }

    pub(super) fn unexpected(&self, name: &str) -> ModelError {
        ModelError::Unexpected { name: name.to_owned(), model: self.spec.name.to_string() }
    }
}

pub(super) fn by_name(tensors: &[(String, Tensor)]) -> Result<BTreeMap<&str, &Tensor>, ModelError> {
    let mut map = BTreeMap::new();
    for (name, tensor) in tensors {
        if map.insert(name.as_str(), tensor).is_some() {
            return Err(ModelError::Repeated { name: name.clone() });
        }
    }
    Ok(map)
}

pub(super) fn check(name: &str, tensor: &Tensor, shape: &[i64], kind: Kind) -> Result<(), ModelError> {
    let found = tensor.size();
    if found != shape {
        let (expected, found) = (Shape(shape.to_vec()), Shape(found));
        return Err(ModelError::Misshapen { name: name.to_owned(), expected, found });
    }
    let found = tensor.f_kind()?;
    if found != kind {
        return Err(ModelError::WrongKind { name: name.to_owned(), expected: kind, found });
    }
    Ok(())
}

/// Never an alias: `contiguous` would return one for what is contiguous already.
pub(super) fn contiguous_copy(view: &Tensor) -> Tensor {
    let mut copy = Tensor::empty(view.size(), (view.kind(), Device::Cpu));
    tch::no_grad(|| copy.copy_(view));
    copy
}
