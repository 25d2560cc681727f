//! The frozen prefix: the leading parts of the network that no training changes, and the ways in behind it.
//!
//! What the prefix makes of a picture is the same in every step, so it may be computed once and kept. The boundary is a
//! number of parts; the activations there are what [`ResNet::forward_prefix`] gives and what [`Input::Boundary`] takes.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::architecture::Stage;
use super::net::Mode;
use super::{ResNet, Runner};

/// What a network is given, on its device.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// f32 [N, 3, H, W], best with channels-last strides.
    Images(&'a Tensor),
    /// What [`ResNet::forward_prefix`] made of them.
    Boundary(&'a Tensor),
}

impl<'a> From<&'a Tensor> for Input<'a> {
    fn from(images: &'a Tensor) -> Self {
        Self::Images(images)
    }
}

impl ResNet {
    /// How many leading parts (stem, blocks, pooling) cannot change in training: nothing in them is trained, and all their
    /// BatchNorm layers are in eval mode. 0: none; fc is never one of them.
    pub fn boundary(&self) -> usize {
        self.layout.boundary
    }

    /// The activations at the boundary as people call them: "layer3", "layer3.2", "the pooled features". None where there
    /// is no prefix.
    pub fn boundary_name(&self) -> Option<String> {
        self.architecture.output_name(self.layout.boundary)
    }

    /// The activations at the boundary of images `x` [N, 3, H, W], without gradients: [N, C, h, w] with channels-last
    /// strides if those of `x` are, or [N, features] behind the pooling. The images themselves where there is no prefix.
    ///
    /// # Panics
    /// If `x` has another shape, kind or device.
    pub fn forward_prefix(&self, x: &Tensor) -> Tensor {
        self.run_eval(0..self.layout.boundary, x)
    }

    /// Logits [N, classes] of `x` by the running statistics, without gradients.
    ///
    /// # Panics
    /// If `x` has another shape, kind or device.
    pub fn forward_eval<'a>(&self, x: impl Into<Input<'a>>) -> Tensor {
        let (x, first) = self.enter(x.into());
        self.run_eval(first..self.architecture.parts(), &x)
    }

    /// Runs `parts` by the running statistics, without gradients.
    fn run_eval(&self, parts: Range<usize>, x: &Tensor) -> Tensor {
        self.buffers.refresh();
        tch::no_grad(|| match &self.runner {
            Runner::Autograd { net, .. } => net.run(parts, &x.to_kind(self.kind_of(x)), Mode::Eval),
            Runner::Cpu(engine) => engine.borrow_mut().eval(parts, x),
        })
    }

    /// What the network wants `x` to be: activations have their own kind, pooled features are f32.
    pub(super) fn kind_of(&self, x: &Tensor) -> Kind {
        if x.dim() == 4 { self.buffers.kind() } else { Kind::Float }
    }

    /// An input, and the part that takes it.
    pub(super) fn enter(&self, input: Input<'_>) -> (Tensor, usize) {
        match input {
            Input::Images(x) => (x.shallow_clone(), 0),
            Input::Boundary(x) => (x.shallow_clone(), self.layout.boundary),
        }
    }

    /// A stage's parts from part `first` on.
    pub(super) fn parts_of(&self, stage: Stage, first: usize) -> Range<usize> {
        let parts = self.architecture.parts_of(stage);
        parts.start.max(first)..parts.end
    }
}
