//! Forward and backward for training, in stages, so that the exchange of a bucket can start while the rest of
//! backward still runs.
//!
//! The graph is cut where one stage hands over to the next: the later stage works on a detached copy of the
//! handle. Backward then runs stage by stage, from the loss down; a stage's gradient with respect to its input, g,
//! goes on as the loss (y * g).sum() of the stage below, whose gradient with respect to y is g to the bit. This needs no
//! hooks, which tch does not have, and costs two passes over two activations.

use std::cell::RefCell;
use std::convert::Infallible;

use tch::{Kind, Tensor};

use super::architecture::Stage;
use super::layout::signed;
use super::net::Mode;
use super::{Engine, Input, ResNet, Runner};

/// What backward needs of one forward pass.
#[derive(Debug)]
pub struct Tape(Way);

#[derive(Debug)]
enum Way {
    /// By stage: the cut below it, where something below is trained.
    Cuts([Option<Cut>; 3]),
    /// The logits, a leaf of autograd: the engine has the rest.
    Engine(Tensor),
}

#[derive(Debug)]
struct Cut {
    /// The lower stage's result, in its graph.
    output: Tensor,
    /// The same values as a leaf of the upper stage's graph.
    input: Tensor,
}

impl ResNet {
    /// One shard's forward pass.
    ///
    /// Returns the logits [N, classes] and the tape for [`Self::backward`]. The statistics of the batch are in
    /// [`Self::shard_statistics`] until the next call. N must be at least 2 where a layer in training mode sees 1x1 maps.
    ///
    /// # Panics
    /// If `x` has another shape, kind or device.
    pub fn forward_train<'a>(&self, x: impl Into<Input<'a>>) -> (Tensor, Tape) {
        self.forward_cut(x.into(), true)
    }

    /// [`Self::forward_train`] with a way out: `go_on` is asked before each stage.
    ///
    /// # Errors
    /// Those of `go_on`, at once.
    pub fn try_forward_train<'a, E>(
        &self,
        x: impl Into<Input<'a>>,
        go_on: impl FnMut() -> Result<(), E>,
    ) -> Result<(Tensor, Tape), E> {
        self.forward_staged(x.into(), true, go_on)
    }

    /// Without cuts the graph is whole: what the tests compare with.
    pub(crate) fn forward_cut(&self, x: Input<'_>, cut: bool) -> (Tensor, Tape) {
        let Ok(result) = self.forward_staged(x, cut, || Ok::<(), Infallible>(()));
        result
    }

    fn forward_staged<E>(
        &self,
        input: Input<'_>,
        cut: bool,
        mut go_on: impl FnMut() -> Result<(), E>,
    ) -> Result<(Tensor, Tape), E> {
        self.buffers.refresh();
        let (x, first) = self.enter(input);
        let net = match &self.runner {
            Runner::Cpu(engine) => return self.engine_forward(engine, (&x, first), go_on),
            Runner::Autograd { net, .. } => net,
        };
        let (mut cuts, mut x) = ([None, None, None], x.to_kind(self.kind_of(&x)));
        for stage in Stage::FORWARD {
            let parts = self.parts_of(stage, first);
            if parts.is_empty() {
                continue;
            }
            go_on()?;
            let below = self.layout.trains_below(stage);
            if below && cut {
                let input = x.detach().set_requires_grad(true);
                cuts[stage as usize] = Some(Cut { output: x, input: input.shallow_clone() });
                x = input;
            }
            let trained = below || self.layout.trained(stage).next().is_some();
            let run = || net.run(parts, &x, Mode::Train);
            x = if trained { run() } else { tch::no_grad(run) };
        }
        Ok((x, Tape(Way::Cuts(cuts))))
    }

    fn engine_forward<E>(
        &self,
        engine: &RefCell<Engine>,
        (x, first): (&Tensor, usize),
        mut go_on: impl FnMut() -> Result<(), E>,
    ) -> Result<(Tensor, Tape), E> {
        let mut engine = engine.borrow_mut();
        let mut flow = engine.enter(x);
        for stage in Stage::FORWARD {
            let parts = self.parts_of(stage, first);
            if !parts.is_empty() {
                go_on()?;
                flow = tch::no_grad(|| engine.train(parts, flow));
            }
        }
        let trains = self.layout.trainable_len > 0;
        let logits = flow.tensor().detach().set_requires_grad(trains);
        Ok((logits.shallow_clone(), Tape(Way::Engine(logits))))
    }

    /// The gradient of `loss` (0-dim, made from the tape's logits) with respect to the trained parameters.
    ///
    /// Overwrites `gradient` (flat, the layout of [`Self::trainable`]) bucket by bucket, and calls `on_bucket` with the
    /// index in [`Self::buckets`] as soon as that part is written: once for each, in order, empty ones too.
    ///
    /// # Errors
    /// Those of `on_bucket`, at once: the rest of the gradient is not computed then.
    ///
    /// # Panics
    /// If `loss` does not come from the tape's logits or `gradient` has another size.
    pub fn backward<E>(
        &self,
        tape: Tape,
        loss: &Tensor,
        gradient: &Tensor,
        mut on_bucket: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        assert_eq!(gradient.size(), self.trainable().size(), "the gradient has the layout of the parameters");
        let (leaves, mut cuts) = match (&self.runner, tape.0) {
            (Runner::Cpu(engine), Way::Engine(logits)) => {
                return engine.borrow_mut().backward((loss, &logits), gradient, on_bucket);
            }
            (Runner::Autograd { leaves, .. }, Way::Cuts(cuts)) => (leaves, cuts),
            _ => panic!("the tape is another model's"),
        };
        let mut root = loss.shallow_clone();
        for (bucket, stage) in Stage::BACKWARD.into_iter().enumerate() {
            let cut = cuts[stage as usize].take();
            let leaves = leaves.iter().zip(&self.layout.slots);
            let trained =
                leaves.filter(|(_, slot)| slot.trainable && slot.stage == stage).map(|(leaf, _)| leaf);
            let inputs: Vec<&Tensor> = trained.chain(cut.as_ref().map(|cut| &cut.input)).collect();
            if !inputs.is_empty() {
                let mut gradients = Tensor::run_backward(&[&root], &inputs, false, false);
                if let Some(cut) = &cut {
                    let handed_down = gradients.pop().expect("the cut's input is the last of the inputs");
                    root = (&cut.output * handed_down).sum(None);
                }
                self.write_bucket(stage, &gradients, gradient);
            }
            on_bucket(bucket)?;
        }
        Ok(())
    }

    /// Lays a stage's gradients one after another, in one kernel.
    fn write_bucket(&self, stage: Stage, gradients: &[Tensor], gradient: &Tensor) {
        if gradients.is_empty() {
            return;
        }
        let range = self.layout.bucket(stage);
        let part = gradient.narrow(0, signed(range.start), signed(range.len()));
        let slots = self.layout.trained(stage);
        let pieces: Vec<Tensor> = slots
            .zip(gradients)
            .map(|(slot, gradient)| slot.flatten(gradient).to_kind(Kind::Float))
            .collect();
        let _ = tch::no_grad(|| Tensor::cat_out(&part, &pieces, 0));
    }
}
