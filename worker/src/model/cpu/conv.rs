//! Convolutions on a CPU, as matrix products wherever that is faster.
//!
//! Measured for every layer of a ResNet50 at 32 px, a shard of 100, one thread (oneDNN 3.10, MKL 2024.2): oneDNN's
//! convolutions reach 20 to 60 % of the machine's peak on 2x2 and 1x1 maps, worst for the weights' gradient, because
//! they reorder weights that are larger than the activations; matrix products stay at 90 %. So 1x1 kernels
//! are products, 3x3 kernels on small maps are sums of products ([`super::taps`]), and the rest is the library's.
//! What is chosen follows from shapes alone: the same on every worker, whatever the machine.
//!
//! Gradients of weights go straight to their place in the flat gradient.

use tch::Tensor;

use super::buffer::Buffer;
use super::map::Map;
use super::taps::{Grid, Tap, taps};
use crate::model::layout::{Slot, signed};

/// Up to this side of the result a 3x3 convolution is made of products; beyond, the padding's share is small and the
/// products are many.
const TAPS_SIDE_MAX: i64 = 2;

/// A convolution without bias.
#[derive(Debug)]
pub(super) struct Conv {
    inputs: i64,
    outputs: i64,
    kernel: i64,
    stride: i64,
    /// `[O, kh * kw * I]`, a view.
    weight: Tensor,
    /// Elements of the flat gradient, where the weight is trained.
    trained: Option<(i64, i64)>,
    /// The inputs that a strided product meets.
    met: Buffer,
}

/// What backward needs of a forward.
#[derive(Debug)]
pub(super) enum Trace {
    /// The inputs, thinned out where the product is strided.
    Product(Map),
    Taps(Map, Vec<Tap>),
    Library(Library),
}

/// A small graph of autograd's: the library's backward is to be had in no other way.
#[derive(Debug)]
pub(super) struct Library {
    input: Tensor,
    weight: Tensor,
    result: Tensor,
}

/// Where the gradient with respect to the input goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    /// Over these values, or to memory of its own.
    Replace(&'a Map),
    Add(&'a Map),
}

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Product,
    Taps,
    Library,
}

impl Conv {
    /// `flat` is what the slot's place is in, in the activations' kind.
    pub(super) fn new(slot: &Slot, stride: i64, flat: &Tensor) -> Self {
        let [outputs, inputs, kernel, _] = slot.shape[..] else {
            panic!("a convolution has four dimensions")
        };
        let place = (signed(slot.start), signed(slot.len));
        let weight = flat.narrow(0, place.0, place.1).view([outputs, -1]);
        let met = Buffer::new(flat.kind());
        Self { inputs, outputs, kernel, stride, weight, trained: slot.trainable.then_some(place), met }
    }

    fn method(&self, input: Grid) -> Method {
        let output = input.strided(self.kernel, self.stride);
        match self.kernel {
            1 => Method::Product,
            3 if output.height.max(output.width) <= TAPS_SIDE_MAX => Method::Taps,
            _ => Method::Library,
        }
    }

    /// Computes into `into`, or into memory of its own. `differentiable` tells whether backward will come.
    pub(super) fn forward(
        &mut self,
        x: &Map,
        into: Option<&mut Buffer>,
        differentiable: bool,
    ) -> (Map, Trace) {
        let grid = x.grid.strided(self.kernel, self.stride);
        let shape = [x.samples() * grid.positions(), self.outputs];
        let result = || match into {
            Some(buffer) => buffer.tensor(&shape),
            None => Tensor::empty(shape, (x.values.kind(), x.values.device())),
        };
        match self.method(x.grid) {
            Method::Product => {
                let met = if self.stride == 1 { x.alias() } else { self.thin_out(x, grid, differentiable) };
                let values = met.values.mm_out(&result(), &self.weight.tr());
                (Map { values, grid }, Trace::Product(met))
            }
            Method::Taps => {
                let z = Map { values: result(), grid };
                let taps = taps(x.grid, (self.inputs, self.outputs), self.kernel, self.stride);
                let (inputs, outputs) = (x.by_sample(), z.by_sample());
                for tap in &taps {
                    let mut output = outputs.narrow(1, tap.output, self.outputs);
                    let input = inputs.narrow(1, tap.input, tap.len);
                    let weight = self.weight.narrow(1, tap.weight, tap.len).tr();
                    let _ = match tap.first {
                        true => input.mm_out(&output, &weight),
                        false => output.addmm_(&input, &weight),
                    };
                }
                (z, Trace::Taps(x.alias(), taps))
            }
            Method::Library => self.library(x, grid, differentiable),
        }
    }

    fn library(&self, x: &Map, grid: Grid, differentiable: bool) -> (Map, Trace) {
        let kernel = self.weight.view([self.outputs, self.kernel, self.kernel, self.inputs]);
        let leaf = |tensor: Tensor| tensor.detach().set_requires_grad(differentiable);
        let (input, weight) = (leaf(x.images()), leaf(kernel.permute([0, 3, 1, 2])));
        let (stride, padding) = ([self.stride; 2], [self.kernel / 2; 2]);
        let convolve = || input.conv2d(&weight, None::<&Tensor>, stride, padding, [1, 1], 1);
        let result = if differentiable { tch::with_grad(convolve) } else { convolve() };
        let z = Map { grid, ..Map::from_images(&result.detach()) };
        (z, Trace::Library(Library { input, weight, result }))
    }

    /// Every stride-th input of both axes.
    fn thin_out(&mut self, x: &Map, grid: Grid, keep: bool) -> Map {
        let shape = [x.samples() * grid.positions(), self.inputs];
        let values = match keep {
            true => self.met.tensor(&shape),
            false => Tensor::empty(shape, (x.values.kind(), x.values.device())),
        };
        let met = Map { values, grid };
        met.spatial().copy_(&self.every_strided(x));
        met
    }

    fn every_strided(&self, x: &Map) -> Tensor {
        let thin = |tensor: &Tensor, dim| tensor.slice(dim, None, None, self.stride);
        thin(&thin(&x.spatial(), 1), 2)
    }

    /// Writes the weight's gradient to its place in the flat `gradient`, where it is trained; returns the input's, where
    /// it is wanted. `dz` is the result's.
    pub(super) fn backward(
        &self,
        trace: Trace,
        dz: &Map,
        gradient: &Tensor,
        target: Option<Target<'_>>,
    ) -> Option<Map> {
        let place = self.trained.map(|(start, len)| gradient.narrow(0, start, len).view([self.outputs, -1]));
        match trace {
            Trace::Product(x) => {
                if let Some(place) = &place {
                    product_into(place, &dz.values.tr(), &x.values);
                }
                target.map(|target| self.product_input(dz, target))
            }
            Trace::Taps(x, taps) => {
                if let Some(place) = place {
                    self.taps_weight(place, (&x, dz), &taps);
                }
                target.map(|target| self.taps_input(dz, target, &taps))
            }
            Trace::Library(graph) => graph.backward(dz, place, target),
        }
    }

    fn product_input(&self, dz: &Map, target: Target<'_>) -> Map {
        if self.stride == 1 {
            return match target {
                Target::Replace(map) => {
                    let _ = dz.values.mm_out(&map.values, &self.weight);
                    map.alias()
                }
                Target::Add(map) => {
                    let _ = map.alias().values.addmm_(&dz.values, &self.weight);
                    map.alias()
                }
            };
        }
        let met = Map { values: dz.values.mm(&self.weight), grid: dz.grid };
        let (Target::Replace(map) | Target::Add(map)) = target;
        if matches!(target, Target::Replace(_)) {
            let _ = map.alias().values.zero_();
        }
        let _ = self.every_strided(map).g_add_(&met.spatial());
        map.alias()
    }

    fn taps_weight(&self, mut place: Tensor, (x, dz): (&Map, &Map), taps: &[Tap]) {
        let _ = place.zero_();
        let (inputs, outputs) = (x.by_sample(), dz.by_sample());
        for tap in taps {
            let output = outputs.narrow(1, tap.output, self.outputs).tr();
            let input = inputs.narrow(1, tap.input, tap.len);
            let mut part = place.narrow(1, tap.weight, tap.len);
            if part.kind() == input.kind() {
                let _ = part.addmm_(&output, &input);
            } else {
                let _ = part.g_add_(&output.mm(&input));
            }
        }
    }

    fn taps_input(&self, dz: &Map, target: Target<'_>, taps: &[Tap]) -> Map {
        let (Target::Replace(map) | Target::Add(map)) = target;
        if matches!(target, Target::Replace(_)) {
            let _ = map.alias().values.zero_();
        }
        let (inputs, outputs) = (map.by_sample(), dz.by_sample());
        for tap in taps {
            let output = outputs.narrow(1, tap.output, self.outputs);
            let weight = self.weight.narrow(1, tap.weight, tap.len);
            let _ = inputs.narrow(1, tap.input, tap.len).addmm_(&output, &weight);
        }
        map.alias()
    }
}

impl Library {
    /// Autograd starts from ones. The gradient of `result · dz` with respect to `result` is `dz` to the bit.
    fn backward(self, dz: &Map, place: Option<Tensor>, target: Option<Target<'_>>) -> Option<Map> {
        let mut wanted = Vec::new();
        wanted.extend(target.is_some().then_some(&self.input));
        wanted.extend(place.is_some().then_some(&self.weight));
        if wanted.is_empty() {
            return None;
        }
        let product = tch::with_grad(|| (&self.result * dz.images()).sum(None));
        let mut gradients = Tensor::run_backward(&[product], &wanted, false, false);
        if let Some(place) = place {
            let found = gradients.pop().expect("the weight's gradient was asked for");
            place.view_as(&found.permute([0, 2, 3, 1])).copy_(&found.permute([0, 2, 3, 1]));
        }
        let target = target?;
        let found = Map::from_images(&gradients.pop().expect("the input's gradient was asked for"));
        Some(match target {
            Target::Replace(_) => found,
            Target::Add(map) => {
                let _ = map.alias().values.g_add_(&found.values);
                map.alias()
            }
        })
    }
}

/// In f32, rounded once, whatever the kind of the factors.
fn product_into(place: &Tensor, left: &Tensor, right: &Tensor) {
    if place.kind() == left.kind() {
        let _ = left.mm_out(place, right);
    } else {
        place.shallow_clone().copy_(&left.mm(right));
    }
}
