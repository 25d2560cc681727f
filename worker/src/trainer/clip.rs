//! Clipping of a step's gradient by its global norm, the same on every member: they hold the same bits of it.

use tch::{Device, Kind, Tensor};

use crate::model::host_view::with_slice;

/// PyTorch's: keeps the division away from zero.
const EPSILON: f64 = 1e-6;

/// PyTorch's `clip_grad_norm_(max_norm)` on a flat gradient, in place: multiplied by `max_norm / (norm + 1e-6)` where that
/// is below 1. Returns the norm from before; one that is no number leaves the gradient alone.
pub(super) fn clip(gradient: &mut Tensor, max_norm: f64) -> f64 {
    let norm = norm(gradient);
    let factor = max_norm / (norm + EPSILON);
    if factor < 1.0 && norm.is_finite() {
        let _ = tch::no_grad(|| gradient.g_mul_scalar_(factor));
    }
    norm
}

/// The Euclidean norm of a flat f32 tensor, summed in f64.
fn norm(gradient: &Tensor) -> f64 {
    match gradient.device() {
        // In an order of its own: libtorch's depends on the number of threads.
        Device::Cpu => with_slice(gradient, sum_of_squares).sqrt(),
        _ => gradient.norm_scalaropt_dtype(2.0, Kind::Double).double_value(&[]),
    }
}

/// In eight interleaved sums, which the processor adds at once.
fn sum_of_squares(values: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 8];
    let (rows, rest) = values.as_chunks::<8>();
    for row in rows {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    for (sum, &value) in sums.iter_mut().zip(rest) {
        *sum += f64::from(value) * f64::from(value);
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clipped(values: &[f32], max_norm: f64) -> (f64, Vec<f32>) {
        let mut gradient = Tensor::from_slice(values);
        let norm = clip(&mut gradient, max_norm);
        (norm, Vec::try_from(gradient).unwrap())
    }

    /// Against `torch.nn.utils.clip_grad_norm_` of torch 2.11.
    #[test]
    fn a_long_gradient_is_shortened_as_pytorch_does_it() {
        let (norm, values) = clipped(&[3.0, -4.0, 12.0], 2.0);
        assert_eq!(norm, 13.0);
        for (found, expected) in values.into_iter().zip([0.461_538_4, -0.615_384_6, 1.846_153_7]) {
            assert!((found - expected).abs() < 1e-7, "{found} {expected}");
        }
    }

    #[test]
    fn a_short_gradient_keeps_every_bit() {
        assert_eq!(clipped(&[0.3, -0.4, 1.2], 1.4), (1.3000000486007104, vec![0.3, -0.4, 1.2]));
        assert_eq!(clipped(&[0.0; 3], 1.0).1, [0.0; 3]);
    }

    #[test]
    fn every_element_counts_once() {
        for len in [0, 1, 7, 8, 9, 64, 1001_u16] {
            let values: Vec<f32> = (0..len).map(f32::from).collect();
            let expected: f64 = (0..len).map(|value| f64::from(value).powi(2)).sum();
            assert_eq!(sum_of_squares(&values), expected, "{len}");
        }
    }

    #[test]
    fn a_norm_that_is_no_number_is_told() {
        assert!(clipped(&[1.0, f32::NAN], 1.0).0.is_nan());
        assert!(clipped(&[1.0, f32::INFINITY], 1.0).0.is_infinite());
        // Its square is beyond f32.
        assert!(clipped(&[1e30], 1.0).0.is_finite());
    }
}
