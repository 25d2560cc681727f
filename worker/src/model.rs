//! Torchvision's ResNets on flat buffers.
//!
//! A replica's values live in a few flat f32 tensors, and the layers' parameters are views of them: `trainable` (what
//! the optimizer moves and the exchange carries), `frozen`, and `statistics` (BatchNorm's running means and
//! variances). Backward hands out gradients in three buckets while it still runs. BatchNorm's running statistics
//! do not move in forward: each shard's batch statistics land in `shard_statistics`, and the running ones
//! move once per step by the mean over all shards, whoever computed them.
//!
//! Knows nothing of data, peers or schedules.

mod architecture;
mod backward;
mod buffers;
mod cpu;
mod error;
mod file;
pub(crate) mod host_view;
mod initial;
mod layout;
mod named;
mod net;
mod prefix;
mod spec;
mod state;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::ops::Range;

use tch::{Device, Tensor};

use self::architecture::{Architecture, Stage};
pub use self::backward::Tape;
use self::buffers::Buffers;
use self::cpu::Engine;
pub use self::error::{ModelError, Shape};
pub use self::file::{tensors_from_safetensors, tensors_to_safetensors};
use self::layout::{Layout, Slot, signed};
use self::net::Net;
pub use self::prefix::Input;
pub use self::spec::{
    Freezing, FrozenBatchNorm, HeadPolicy, LoadReport, ModelName, ModelSpec, Precision, Trainable,
};

/// One replica on one device.
#[derive(Debug)]
pub struct ResNet {
    spec: ModelSpec,
    device: Device,
    architecture: Architecture,
    layout: Layout,
    buffers: Buffers,
    runner: Runner,
    /// PyTorch's `num_batches_tracked`, by BatchNorm layer.
    batches_tracked: Vec<i64>,
}

/// How the network is run.
#[derive(Debug)]
enum Runner {
    Autograd {
        /// The parameters in forward order, views of the buffers; the trained ones are leaves of autograd.
        leaves: Vec<Tensor>,
        net: Net,
    },
    /// Shut in a cell for its memory, which outlives a pass and means nothing between two.
    Cpu(Box<RefCell<Engine>>),
}

impl Runner {
    fn autograd(architecture: &Architecture, layout: &Layout, buffers: &Buffers) -> Self {
        let leaf = |slot: &Slot| {
            let is_convolution = slot.shape.len() == 4;
            let flat = if is_convolution {
                buffers.convolution_flat(slot.trainable)
            } else {
                buffers.flat(slot.trainable)
            };
            slot.view(flat).set_requires_grad(slot.trainable)
        };
        let leaves: Vec<Tensor> = layout.slots.iter().map(leaf).collect();
        let net = Net::new(architecture, layout, buffers, &leaves);
        Self::Autograd { leaves, net }
    }
}

/// A parameter as a summary shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    /// Torchvision's.
    pub shape: Vec<i64>,
    pub trainable: bool,
}

impl ResNet {
    /// A replica with zeros for weights; see [`Self::init`], [`Self::load_state`].
    ///
    /// # Errors
    /// A name that is no parameter's, fewer than one class, a device that cannot hold it.
    pub fn new(spec: ModelSpec, freezing: &Freezing, device: Device) -> Result<Self, ModelError> {
        if spec.classes < 1 {
            return Err(ModelError::Classes(spec.classes));
        }
        let architecture = Architecture::new(spec);
        let layout = Layout::new(spec, &architecture, freezing)?;
        let buffers = Buffers::new(&layout, spec.precision.kind(), device)?;
        let runner = match device {
            Device::Cpu => Runner::Cpu(Box::new(RefCell::new(Engine::new(&architecture, &layout, &buffers)))),
            _ => Runner::autograd(&architecture, &layout, &buffers),
        };
        let batches_tracked = vec![0; layout.norms.len()];
        Ok(Self { spec, device, architecture, layout, buffers, runner, batches_tracked })
    }

    /// The same as GPUs run it.
    #[cfg(test)]
    pub(crate) fn with_autograd(mut self) -> Self {
        self.runner = Runner::autograd(&self.architecture, &self.layout, &self.buffers);
        self
    }

    /// Sets torchvision's initial values; a function of the seed and the parameters' names alone.
    pub fn init(&mut self, seed: u64) {
        let values = |trainable: bool, len: usize| {
            let mut flat = vec![0.0; len];
            let slots = self.layout.slots.iter().filter(|slot| slot.trainable == trainable);
            initial::fill_all(slots, self.architecture.features, seed, &mut flat);
            Tensor::from_slice(&flat)
        };
        let trainable = values(true, self.layout.trainable_len);
        let frozen = values(false, self.layout.frozen_len);
        tch::no_grad(|| {
            self.buffers.trainable.copy_(&trainable);
            self.buffers.frozen.copy_(&frozen);
            let _ = self.buffers.shard_statistics.zero_();
            for norm in &self.layout.norms {
                let _ = norm.mean(&self.buffers.statistics).zero_();
                let _ = norm.variance(&self.buffers.statistics).fill_(1.0);
            }
        });
        self.buffers.changed();
        self.batches_tracked.fill(0);
    }

    pub fn spec(&self) -> ModelSpec {
        self.spec
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// All parameters in forward order.
    pub fn parameters(&self) -> Vec<Parameter> {
        let parameter = |slot: &Slot| Parameter {
            name: slot.name.clone(),
            shape: slot.shape.clone(),
            trainable: slot.trainable,
        };
        self.layout.slots.iter().map(parameter).collect()
    }

    /// The trained parameters, flat, in forward order; convolutions as [O, kh, kw, I].
    pub fn trainable(&self) -> &Tensor {
        &self.buffers.trainable
    }

    /// For changes in place between steps; the layers' views move along. Never put another tensor here.
    pub fn trainable_mut(&mut self) -> &mut Tensor {
        self.buffers.changed();
        &mut self.buffers.trainable
    }

    /// The parameters that stay, laid out alike.
    pub fn frozen(&self) -> &Tensor {
        &self.buffers.frozen
    }

    /// BatchNorm's running statistics, flat: each layer's means, then its variances, in forward order.
    pub fn statistics(&self) -> &Tensor {
        &self.buffers.statistics
    }

    /// The last [`Self::forward_train`]'s batch means and unbiased variances, laid out as [`Self::statistics`]. Zero for
    /// layers in eval mode. Overwritten by the next forward.
    pub fn shard_statistics(&self) -> &Tensor {
        &self.buffers.shard_statistics
    }

    /// A flat tensor of zeros as large as [`Self::trainable`].
    pub fn new_gradient(&self) -> Tensor {
        self.buffers.trainable.zeros_like()
    }

    /// Element ranges of the flat gradient in the order in which backward completes them: {fc, layer4}, {layer3},
    /// {layer2, layer1, stem}. Together they cover it; where layers are frozen, some may be empty.
    pub fn buckets(&self) -> Vec<Range<usize>> {
        Stage::BACKWARD.into_iter().map(|stage| self.layout.bucket(stage)).collect()
    }

    /// Once per step: running = (1 - momentum) * running + momentum * mean over the shards, and one more batch
    /// tracked, in the layers that are in training mode. The others keep every bit.
    ///
    /// # Panics
    /// If the tensor has another layout than [`Self::statistics`].
    pub fn move_statistics(&mut self, mean_over_shards: &Tensor, momentum: f64) {
        assert_eq!(mean_over_shards.size(), self.buffers.statistics.size(), "statistics have one layout");
        tch::no_grad(|| {
            for range in self.layout.moving_statistics() {
                let part = |flat: &Tensor| flat.narrow(0, signed(range.start), signed(range.len()));
                let mut running = part(&self.buffers.statistics);
                let _ = running.g_mul_scalar_(1.0 - momentum);
                let _ = running.g_add_(&part(mean_over_shards).g_mul_scalar(momentum));
            }
        });
        for (norm, count) in self.layout.norms.iter().zip(&mut self.batches_tracked) {
            *count += i64::from(norm.training);
        }
    }
}
