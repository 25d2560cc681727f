//! The network itself: views of the flat buffers, wired as torchvision wires them, to be run part by part.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::architecture::{Architecture, BlockSpec, UnitSpec};
use super::buffers::Buffers;
use super::layout::Layout;

/// PyTorch's default.
pub(crate) const EPSILON: f64 = 1e-5;
/// Takes cuDNN's BatchNorm where there is one.
const CUDNN: bool = true;

/// Which statistics BatchNorm uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Layers in training mode normalise by the batch and note its statistics in the shard's buffer.
    Train,
    /// All layers normalise by the running statistics.
    Eval,
}

#[derive(Debug)]
pub(crate) struct Net {
    stem: Unit,
    blocks: Vec<Block>,
    fc_weight: Tensor,
    fc_bias: Tensor,
}

#[derive(Debug)]
struct Block {
    units: Vec<Unit>,
    downsample: Option<Unit>,
}

/// A convolution and its BatchNorm.
#[derive(Debug)]
struct Unit {
    weight: Tensor,
    stride: i64,
    padding: i64,
    norm: Norm,
}

#[derive(Debug)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_variance: Tensor,
    shard_mean: Tensor,
    shard_variance: Tensor,
    training: bool,
}

impl Net {
    /// `leaves` are the parameters' views in forward order.
    pub(crate) fn new(
        architecture: &Architecture,
        layout: &Layout,
        buffers: &Buffers,
        leaves: &[Tensor],
    ) -> Self {
        let mut builder = Builder { leaves: leaves.iter(), layout, buffers, norms: 0 };
        let stem = builder.unit(&architecture.stem);
        let blocks = architecture.layers.iter().flatten().map(|block| builder.block(block)).collect();
        let (fc_weight, fc_bias) = (builder.leaf(), builder.leaf());
        Self { stem, blocks, fc_weight, fc_bias }
    }

    /// Runs some of [`Architecture::parts`] on what the parts before them made. Channels-last activations stay
    /// channels-last all the way.
    pub(crate) fn run(&self, parts: Range<usize>, x: &Tensor, mode: Mode) -> Tensor {
        parts.fold(x.shallow_clone(), |x, part| self.part(part, &x, mode))
    }

    fn part(&self, part: usize, x: &Tensor, mode: Mode) -> Tensor {
        let Some(block) = part.checked_sub(1) else {
            let y = self.stem.forward(x, mode).relu_();
            return y.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
        };
        match self.blocks.get(block) {
            Some(block) => block.forward(x, mode),
            // The same mean as adaptive pooling to 1x1, whose backward on GPUs is not deterministic.
            None if block == self.blocks.len() => x.mean_dim([2i64, 3].as_slice(), false, Kind::Float),
            None => x.linear(&self.fc_weight, Some(&self.fc_bias)),
        }
    }
}

impl Block {
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let (last, inner) = self.units.split_last().expect("a block has units");
        // In place is safe for autograd: BatchNorm's backward needs its input, ReLU's its result.
        let mut y = x.shallow_clone();
        for unit in inner {
            y = unit.forward(&y, mode).relu_();
        }
        y = last.forward(&y, mode);
        match &self.downsample {
            Some(unit) => y.g_add_(&unit.forward(x, mode)),
            None => y.g_add_(x),
        }
        .relu_()
    }
}

impl Unit {
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        let y = x.conv2d(&self.weight, None::<&Tensor>, stride, padding, [1, 1], 1);
        self.norm.forward(&y, mode)
    }
}

impl Norm {
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let batch = mode == Mode::Train && self.training;
        // With momentum 1 the "running" buffers end up holding this batch's mean and unbiased variance, on
        // every backend and at no extra pass. The real ones move once per step, by all shards' mean.
        let (mean, variance, momentum) = if batch {
            (&self.shard_mean, &self.shard_variance, 1.0)
        } else {
            (&self.running_mean, &self.running_variance, 0.0)
        };
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        x.batch_norm(weight, bias, Some(mean), Some(variance), batch, momentum, EPSILON, CUDNN)
    }
}

/// Takes the leaves in forward order.
struct Builder<'a> {
    leaves: std::slice::Iter<'a, Tensor>,
    layout: &'a Layout,
    buffers: &'a Buffers,
    norms: usize,
}

impl Builder<'_> {
    fn leaf(&mut self) -> Tensor {
        self.leaves.next().expect("layout and architecture list the same parameters").shallow_clone()
    }

    fn unit(&mut self, spec: &UnitSpec) -> Unit {
        let slot = &self.layout.norms[self.norms];
        self.norms += 1;
        let (running, shard) = (&self.buffers.statistics, &self.buffers.shard_statistics);
        let weight = self.leaf();
        let norm = Norm {
            weight: self.leaf(),
            bias: self.leaf(),
            running_mean: slot.mean(running),
            running_variance: slot.variance(running),
            shard_mean: slot.mean(shard),
            shard_variance: slot.variance(shard),
            training: slot.training,
        };
        Unit { weight, stride: spec.stride, padding: spec.kernel / 2, norm }
    }

    fn block(&mut self, spec: &BlockSpec) -> Block {
        let units = spec.units.iter().map(|unit| self.unit(unit)).collect();
        Block { units, downsample: spec.downsample.as_ref().map(|unit| self.unit(unit)) }
    }
}
