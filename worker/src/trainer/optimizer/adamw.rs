//! AdamW: Adam with decoupled weight decay, by PyTorch's formula.

use std::ops::Range;

use tch::{Device, Tensor};

use super::pieces;
use super::rates::{Rates, Setting};

pub(super) const EXP_AVG: &str = "exp_avg";
pub(super) const EXP_AVG_SQ: &str = "exp_avg_sq";

/// AdamW's own numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Betas {
    pub(super) first: f64,
    pub(super) second: f64,
    pub(super) eps: f64,
}

/// Part of the flat parameters that has been trained since the same step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Birth {
    pub(crate) range: Range<usize>,
    /// Updates of the run before its first.
    pub(crate) step: u64,
}

/// AdamW over flat parameters, with its state.
#[derive(Debug)]
pub(super) struct AdamW {
    betas: Betas,
    lr: Setting,
    lr_times_decay: Setting,
    /// Cover the parameters. Bias correction counts a parameter's own updates: PyTorch keeps that count beside each of
    /// them, here it follows from the position, so that nothing has to be saved.
    births: Vec<Birth>,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
}

impl AdamW {
    pub(super) fn new(betas: Betas, rates: &Rates, births: Vec<Birth>, like: &Tensor) -> Self {
        let device = like.device();
        Self {
            betas,
            lr: rates.lr(device),
            lr_times_decay: rates.lr_times_decay(device),
            births,
            exp_avg: like.zeros_like(),
            exp_avg_sq: like.zeros_like(),
        }
    }

    /// By name; aliases.
    pub(super) fn state(&self) -> Vec<(&'static str, Tensor)> {
        vec![(EXP_AVG, self.exp_avg.shallow_clone()), (EXP_AVG_SQ, self.exp_avg_sq.shallow_clone())]
    }

    /// The update that comes after `step` others. With n its number since the parameter's birth:
    ///
    /// p -= lr * decay * p; m += (1 - beta1) * (g - m); v = beta2 * v + (1 - beta2) * g²;
    /// p -= lr / (1 - beta1^n) * m / (√v / √(1 - beta2^n) + eps), where lr has the schedule's factor.
    pub(super) fn step(&self, params: &Tensor, grad: &Tensor, factor: f64, step: u64) {
        for Birth { range, step: birth } in &self.births {
            let updates = step.saturating_sub(*birth) + 1;
            self.step_range(params, grad, range.clone(), factor, updates);
        }
    }

    fn step_range(&self, params: &Tensor, grad: &Tensor, range: Range<usize>, factor: f64, updates: u64) {
        let device: Device = params.device();
        let Betas { first, second, eps } = self.betas;
        // Far beyond i32 the corrections have long been 1.
        let updates = i32::try_from(updates).unwrap_or(i32::MAX);
        let (correction, correction_sq) = (1.0 - first.powi(updates), 1.0 - second.powi(updates));
        let shrink = self.lr_times_decay.times(-factor, device);
        let rate = self.lr.times(-factor / correction, device);
        for range in pieces(range, device) {
            let part = |flat: &Tensor| flat.narrow(0, range.start as i64, range.len() as i64);
            let (mut p, g) = (part(params), part(grad));
            let (mut m, mut v) = (part(&self.exp_avg), part(&self.exp_avg_sq));
            if !self.lr_times_decay.is_zero() {
                let before = p.shallow_clone();
                let _ = p.addcmul_(&before, &shrink.part(&range));
            }
            let _ = m.lerp_(&g, 1.0 - first);
            let _ = v.g_mul_scalar_(second);
            let _ = v.addcmul_(&g.g_mul_scalar(1.0 - second), &g);
            let mut scale = v.sqrt();
            let _ = scale.g_div_scalar_(correction_sq.sqrt());
            let _ = scale.g_add_scalar_(eps);
            let _ = p.addcmul_(&m.g_div(&scale), &rate.part(&range));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::optimizer::CPU_PIECE_LEN;
    use crate::trainer::optimizer::tests::{close, host, values};

    const BETAS: Betas = Betas { first: 0.9, second: 0.999, eps: 1e-8 };

    fn whole(len: usize) -> Vec<Birth> {
        vec![Birth { range: 0..len, step: 0 }]
    }

    /// `torch.optim.AdamW(lr=0.01, weight_decay=0.1)` of torch 2.11 on four numbers, with the rate halved for the third
    /// step, each step's gradient twice the one before.
    #[test]
    fn adamw_follows_pytorch() {
        let params = Tensor::from_slice(&[0.5_f32, -0.25, 2.0, 0.0]);
        let adamw = AdamW::new(BETAS, &Rates::uniform(0.01, 0.1, 4), whole(4), &params);
        let expected: [[f32; 4]; 3] = [
            [0.489_5, -0.239_75, 1.988, -0.01],
            [0.479_358_7, -0.229_858_43, 1.976_360_3, -0.019_641_82],
            [0.474_511_15, -0.225_135_65, 1.970_764_3, -0.024_239_846],
        ];
        for (step, (factor, expected)) in [1.0, 1.0, 0.5].into_iter().zip(expected).enumerate() {
            let grad = Tensor::from_slice(&[0.1_f32, -0.2, 0.003, 1.0]).g_mul_scalar(f64::from(1 << step));
            adamw.step(&params, &grad, factor, step as u64);
            assert!(close(&host(&params), &expected), "step {step}: {:?}", host(&params));
        }
    }

    /// Kingma and Ba's algorithm 1 with Loshchilov and Hutter's decay, number by number, in f64.
    #[test]
    fn adamw_follows_its_formula_whatever_the_pieces() {
        let len = CPU_PIECE_LEN + 5;
        let (mut p, mut m, mut v) = (values(len, 100), vec![0.0_f64; len], vec![0.0_f64; len]);
        let params = Tensor::from_slice(&p);
        let adamw = AdamW::new(BETAS, &Rates::uniform(0.02, 0.05, len), whole(len), &params);
        for step in 0..3_i32 {
            let (grad, factor) = (values(len, step as usize), 1.0 / f64::from(step + 1));
            adamw.step(&params, &Tensor::from_slice(&grad), factor, step as u64);
            let lr = 0.02 * factor;
            for (((p, m), v), g) in
                p.iter_mut().zip(&mut m).zip(&mut v).zip(grad.iter().map(|&g| f64::from(g)))
            {
                *m = 0.9 * *m + 0.1 * g;
                *v = 0.999 * *v + 0.001 * g * g;
                let (m_hat, v_hat) =
                    (*m / (1.0 - 0.9_f64.powi(step + 1)), *v / (1.0 - 0.999_f64.powi(step + 1)));
                *p = (f64::from(*p) * (1.0 - lr * 0.05) - lr * m_hat / (v_hat.sqrt() + 1e-8)) as f32;
            }
            assert!(close(&host(&params), &p), "step {step}");
        }
    }

    /// PyTorch's state of a parameter begins with its first gradient, however late in the run.
    #[test]
    fn a_parameter_counts_its_own_updates() {
        let start = values(6, 1);
        let params = Tensor::from_slice(&start);
        let births = vec![Birth { range: 0..4, step: 0 }, Birth { range: 4..6, step: 2 }];
        let adamw = AdamW::new(BETAS, &Rates::uniform(0.01, 0.1, 6), births, &params);
        let late = Tensor::from_slice(&start[4..]);
        let newborn = AdamW::new(BETAS, &Rates::uniform(0.01, 0.1, 2), whole(2), &late);
        for step in 2..5 {
            let grad = Tensor::from_slice(&values(6, step));
            adamw.step(&params, &grad, 1.0, step as u64);
            newborn.step(&late, &grad.narrow(0, 4, 2), 1.0, step as u64 - 2);
        }
        assert_eq!(host(&params)[4..], host(&late));
    }

    #[test]
    fn a_step_leaves_the_gradient_alone() {
        let params = Tensor::from_slice(&values(9, 1));
        let grad = Tensor::from_slice(&values(9, 2));
        AdamW::new(BETAS, &Rates::uniform(0.1, 0.01, 9), whole(9), &params).step(&params, &grad, 1.0, 0);
        assert_eq!(host(&grad), values(9, 2));
    }
}
