//! Stochastic gradient descent, by PyTorch's formula.

use tch::{Device, Tensor};

use super::pieces;
use super::rates::{Rates, Setting, scalar};

pub(super) const MOMENTUM: &str = "momentum";

/// SGD over flat parameters, with its state.
#[derive(Debug)]
pub(super) struct Sgd {
    inertia: f64,
    nesterov: bool,
    lr: Setting,
    decay: Setting,
    /// PyTorch's momentum buffer; none when momentum is 0. Zeros before the first step: PyTorch starts it with the
    /// first gradient, and momentum * 0 + g is that.
    momentum: Option<Tensor>,
}

impl Sgd {
    pub(super) fn new(momentum: f64, nesterov: bool, rates: &Rates, like: &Tensor) -> Self {
        let device = like.device();
        Self {
            inertia: momentum,
            nesterov,
            lr: rates.lr(device),
            decay: rates.decay(device),
            momentum: (momentum != 0.0).then(|| like.zeros_like()),
        }
    }

    /// By name; aliases.
    pub(super) fn state(&self) -> Vec<(&'static str, Tensor)> {
        self.momentum.iter().map(|buffer| (MOMENTUM, buffer.shallow_clone())).collect()
    }

    /// g += decay * p; buffer = momentum * buffer + g; g = buffer, or with Nesterov g + momentum * buffer;
    /// p -= lr * factor * g.
    pub(super) fn step(&self, params: &Tensor, grad: &Tensor, factor: f64) {
        let device: Device = params.device();
        let (decay, rate) = (self.decay.times(1.0, device), self.lr.times(-factor, device));
        let inertia = scalar(self.inertia, device);
        for range in pieces(0..params.numel(), device) {
            let part = |flat: &Tensor| flat.narrow(0, range.start as i64, range.len() as i64);
            let (mut p, mut g) = (part(params), part(grad));
            if !self.decay.is_zero() {
                g = g.addcmul(&p, &decay.part(&range));
            }
            if let Some(buffer) = &self.momentum {
                let mut buffer = part(buffer);
                let _ = buffer.g_mul_(&inertia);
                let _ = buffer.g_add_(&g);
                g = if self.nesterov { g.addcmul(&buffer, &inertia) } else { buffer };
            }
            let _ = p.addcmul_(&g, &rate.part(&range));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::optimizer::CPU_PIECE_LEN;
    use crate::trainer::optimizer::tests::{close, host, values};

    /// PyTorch's formula, number by number.
    fn by_hand(sgd: &Sgd, lr: f32, decay: f32, p: &mut [f32], buffer: &mut [f32], grad: &[f32]) {
        let momentum = sgd.inertia as f32;
        for ((p, b), g) in p.iter_mut().zip(buffer).zip(grad) {
            let mut g = g + decay * *p;
            *b = momentum * *b + g;
            g = if sgd.nesterov { g + momentum * *b } else { *b };
            *p -= lr * g;
        }
    }

    #[test]
    fn sgd_follows_pytorchs_formula() {
        let len = CPU_PIECE_LEN + 5;
        for momentum in [0.0, 0.9] {
            for decay in [0.0, 0.01] {
                for nesterov in [false, true] {
                    if nesterov && momentum == 0.0 {
                        continue;
                    }
                    let (mut p, mut buffer) = (values(len, 100), vec![0.0; len]);
                    let params = Tensor::from_slice(&p);
                    let sgd = Sgd::new(momentum, nesterov, &Rates::uniform(0.1, decay, len), &params);
                    for step in 0..3 {
                        let factor = 1.0 / f64::from(step + 1);
                        let grad = values(len, step as usize);
                        sgd.step(&params, &Tensor::from_slice(&grad), factor);
                        by_hand(&sgd, (0.1 * factor) as f32, decay as f32, &mut p, &mut buffer, &grad);
                        assert!(close(&host(&params), &p), "{sgd:?} step {step}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_step_leaves_the_gradient_alone() {
        let params = Tensor::from_slice(&values(9, 1));
        let grad = Tensor::from_slice(&values(9, 2));
        Sgd::new(0.9, true, &Rates::uniform(0.1, 0.01, 9), &params).step(&params, &grad, 1.0);
        assert_eq!(host(&grad), values(9, 2));
    }
}
