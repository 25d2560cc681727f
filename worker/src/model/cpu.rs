//! Training and evaluation of a replica on a CPU, without autograd.
//!
//! The generic network ([`super::net`]) is what GPUs run and what this is tested against. Here forward and backward are
//! written out, which allows what a graph does not: convolutions as the matrix products that they are ([`conv`]),
//! BatchNorm, ReLU and the residual sum in one pass ([`norm`], [`kernels`]), gradients that are written where they are
//! exchanged, and no memory that is not used in every step ([`block`]).
//!
//! The number of a sample's neighbours in its batch may show in the last bits, as it does with any matrix product; what
//! is computed together follows from the recipe alone.

mod block;
mod buffer;
mod conv;
mod element;
mod head;
mod kernels;
mod map;
mod norm;
mod taps;

use std::ops::Range;

use tch::{Kind, Tensor};

use self::block::{Block, Kept, Unit};
use self::conv::Conv;
use self::head::Head;
use self::map::Map;
use self::norm::{Added, Norm};
use super::architecture::{Architecture, Stage, UnitSpec};
use super::buffers::Buffers;
use super::layout::{Layout, NormSlot, Slot};
use super::net::Mode;

/// Samples that are evaluated together: their activations of a layer then stay in a core's cache.
const EVAL_SAMPLES: i64 = 100;

/// The network over the replica's flat buffers.
#[derive(Debug)]
pub(super) struct Engine {
    kind: Kind,
    stem: Unit,
    blocks: Vec<(Stage, Block)>,
    head: Head,
    /// The first part at or below which something is trained; beyond all parts if nothing is.
    lowest: usize,
    kept: KeptEnds,
}

/// What backward needs of the parts that are no blocks.
#[derive(Debug, Default)]
struct KeptEnds {
    stem: Option<(Kept, Map, Tensor)>,
    /// The last block's result.
    top: Option<Map>,
    /// `[N, features]`.
    features: Option<Tensor>,
}

/// What one part hands to the next.
#[derive(Debug)]
pub(super) enum Flow {
    Map(Map),
    /// f32 `[N, features]`, or logits `[N, classes]`.
    Rows(Tensor),
}

impl Flow {
    /// As the generic network hands it on.
    pub(super) fn tensor(&self) -> Tensor {
        match self {
            Self::Map(map) => map.images(),
            Self::Rows(rows) => rows.shallow_clone(),
        }
    }
}

impl Engine {
    pub(super) fn new(architecture: &Architecture, layout: &Layout, buffers: &Buffers) -> Self {
        let mut builder = Builder { slots: layout.slots.iter(), norms: layout.norms.iter(), buffers };
        let stem = builder.unit(&architecture.stem);
        let mut blocks = Vec::new();
        for (part, spec) in (1..).zip(architecture.layers.iter().flatten()) {
            let units = spec.units.iter().map(|unit| builder.unit(unit)).collect();
            let projection = spec.downsample.as_ref().map(|unit| builder.unit(unit));
            blocks.push((architecture.stage_of(part), Block::new(units, projection, buffers.kind())));
        }
        let head = Head::new([builder.slot(), builder.slot()], buffers);
        let lowest = layout.slots.iter().filter(|slot| slot.trainable).map(|slot| slot.part).min();
        let lowest = lowest.unwrap_or(usize::MAX);
        Self { kind: buffers.kind(), stem, blocks, head, lowest, kept: KeptEnds::default() }
    }

    /// Images `[N, C, H, W]` or rows, as the first of some parts takes them.
    pub(super) fn enter(&self, x: &Tensor) -> Flow {
        match x.dim() {
            4 => Flow::Map(Map::from_images(&x.to_kind(self.kind))),
            _ => Flow::Rows(x.shallow_clone()),
        }
    }

    /// Runs `parts` by the running statistics; `x` is what the parts before them made.
    pub(super) fn eval(&mut self, parts: Range<usize>, x: &Tensor) -> Tensor {
        let samples = x.size()[0];
        let mut chunks = Vec::new();
        for start in (0..samples.max(1)).step_by(EVAL_SAMPLES as usize) {
            let chunk = self.enter(&x.narrow(0, start, EVAL_SAMPLES.min(samples - start)));
            let run = |flow, part| self.part(part, flow, Mode::Eval, false);
            chunks.push(parts.clone().fold(chunk, run).tensor());
        }
        if chunks.len() == 1 { chunks.remove(0) } else { Tensor::cat(&chunks, 0) }
    }

    /// Runs `parts` in training mode, keeping what backward needs.
    pub(super) fn train(&mut self, parts: Range<usize>, flow: Flow) -> Flow {
        parts.fold(flow, |flow, part| self.part(part, flow, Mode::Train, part >= self.lowest))
    }

    fn part(&mut self, part: usize, flow: Flow, mode: Mode, keep: bool) -> Flow {
        let pooling = self.blocks.len() + 1;
        match flow {
            Flow::Map(x) if part == 0 => Flow::Map(self.stem(&x, mode, keep)),
            Flow::Map(x) if part < pooling => Flow::Map(self.blocks[part - 1].1.forward(&x, mode, keep)),
            Flow::Map(x) => {
                let pooled = head::pool(&x);
                self.kept.top = keep.then_some(x);
                Flow::Rows(pooled)
            }
            Flow::Rows(x) => {
                let logits = self.head.forward(&x);
                self.kept.features = keep.then_some(x);
                Flow::Rows(logits)
            }
        }
    }

    /// Convolution, BatchNorm, ReLU and max pooling.
    fn stem(&mut self, x: &Map, mode: Mode, keep: bool) -> Map {
        let kept = self.stem.convolve(x, mode, keep);
        let y = self.stem.activate(&kept, Added::Nothing, keep);
        let (pooled, indices) = y.images().max_pool2d_with_indices([3, 3], [2, 2], [1, 1], [1, 1], false);
        self.kept.stem = keep.then_some((kept, y, indices));
        Map::from_images(&pooled)
    }

    /// The way back through what [`Self::train`] kept, from the `loss` made of `logits`, a leaf of autograd. Overwrites
    /// the flat `gradient` and calls `on_stage` behind each stage.
    pub(super) fn backward<E>(
        &mut self,
        (loss, logits): (&Tensor, &Tensor),
        gradient: &Tensor,
        mut on_stage: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let pooling = self.blocks.len() + 1;
        let mut down = None;
        if self.lowest <= pooling + 1 {
            let rows = Tensor::run_backward(&[loss], &[logits], false, false).remove(0);
            let features = self.kept.features.take().expect("forward comes first");
            let rows = self.head.backward(&features, &rows, gradient, self.lowest <= pooling);
            down = rows.zip(self.kept.top.take()).map(|(rows, top)| head::spread(&rows, &top));
        }
        for (index, stage) in Stage::BACKWARD.into_iter().enumerate() {
            for (index, (_, block)) in
                self.blocks.iter_mut().enumerate().rev().filter(|(_, (of, _))| *of == stage)
            {
                if let Some(above) = down.take() {
                    down = block.backward(above, gradient, index + 1 > self.lowest);
                }
            }
            if let Some(above) = down.take_if(|_| stage == Stage::Trunk) {
                self.stem_backward(&above, gradient);
            }
            on_stage(index)?;
        }
        Ok(())
    }

    fn stem_backward(&mut self, above: &Map, gradient: &Tensor) {
        let (kept, y, indices) = self.kept.stem.take().expect("forward comes first");
        let (above, image) = (above.images(), y.images());
        let unpooled =
            image.max_pool2d_with_indices_backward(&above, [3, 3], [2, 2], [1, 1], [1, 1], false, &indices);
        let _ = self.stem.backward(kept, (&Map::from_images(&unpooled), true), gradient, None);
    }
}

/// Takes the slots in forward order.
struct Builder<'a> {
    slots: std::slice::Iter<'a, Slot>,
    norms: std::slice::Iter<'a, NormSlot>,
    buffers: &'a Buffers,
}

impl<'a> Builder<'a> {
    fn slot(&mut self) -> &'a Slot {
        self.slots.next().expect("layout and architecture list the same parameters")
    }

    fn unit(&mut self, spec: &UnitSpec) -> Unit {
        let weight = self.slot();
        let conv = Conv::new(weight, spec.stride, self.buffers.convolution_flat(weight.trainable));
        let norm = self.norms.next().expect("every convolution has its BatchNorm");
        let norm = Norm::new([self.slot(), self.slot()], norm, self.buffers);
        Unit::new(conv, norm, self.buffers.kind())
    }
}
