//! Dense tensors on the CPU seen as slices: the exchange reads and writes them without a copy, and own kernels work on
//! them.
//!
//! One of the few files with `unsafe`: tch hands out raw pointers only. Views live for one call: a tensor's other
//! handles could change or free what a longer-lived view shows.
#![allow(unsafe_code)]

use half::bf16;
use tch::{Device, Kind, Tensor};

/// A kind of number whose tensors have views.
pub(crate) trait Number: bytemuck::Pod {
    const KIND: Kind;
}

impl Number for f32 {
    const KIND: Kind = Kind::Float;
}

impl Number for bf16 {
    const KIND: Kind = Kind::BFloat16;
}

/// Calls `look` with the elements of `tensor`.
///
/// # Panics
/// If it is not a dense tensor of that kind on the CPU: this program made it, so that would be a mistake in it.
pub(crate) fn with_slice<T: Number, R>(tensor: &Tensor, look: impl FnOnce(&[T]) -> R) -> R {
    let (data, len) = checked::<T>(tensor);
    // SAFETY: `data` points to `len` numbers in a row, aligned, alive as long as `tensor` (see `checked`). tch tensors are
    // not `Sync`, so no other thread has this handle, and `look` is given no way to write through another one: the
    // closures only add the slice elsewhere, or read it to fill another storage, without touching tensors.
    look(unsafe { std::slice::from_raw_parts(data, len) })
}

/// Calls `change` with the elements of `tensor`, to be changed in place.
///
/// # Panics
/// As [`with_slice`].
pub(crate) fn with_slice_mut<T: Number, R>(tensor: &mut Tensor, change: impl FnOnce(&mut [T]) -> R) -> R {
    let (data, len) = checked::<T>(tensor);
    // SAFETY: as in `with_slice`; `&mut` keeps this handle to `change`, and no view of another handle of the same
    // storage is made inside it: what is read there lies in other storages.
    change(unsafe { std::slice::from_raw_parts_mut(data, len) })
}

fn checked<T: Number>(tensor: &Tensor) -> (*mut T, usize) {
    assert_eq!(tensor.device(), Device::Cpu, "a view of a tensor that is not on the CPU");
    assert_eq!(tensor.kind(), T::KIND, "a view of a tensor of another kind");
    assert!(tensor.is_contiguous(), "a view of a tensor with gaps");
    let len = tensor.numel();
    if len == 0 {
        // An empty tensor may have no storage; a slice needs a pointer that is not null.
        return (std::ptr::NonNull::dangling().as_ptr(), 0);
    }
    (tensor.data_ptr().cast(), len)
}

/// Numbers in memory that libtorch did not make, seen as flat f32 tensors on the CPU too.
#[derive(Debug)]
pub(crate) struct Lent<M> {
    tensors: Vec<Tensor>,
    memory: M,
}

impl<M> Lent<M> {
    /// `numbers` shows what is to be seen of `memory`: the same numbers at the same addresses, for as long as it lives,
    /// wherever `memory` itself is moved.
    pub(crate) fn new(mut memory: M, numbers: impl FnOnce(&mut M) -> Vec<&mut [f32]>) -> Self {
        let view = |numbers: &mut [f32]| {
            let (data, len) = (numbers.as_mut_ptr().cast(), numbers.len() as i64);
            // SAFETY: `data` points to `len` numbers in a row, which `memory` keeps. The tensor goes with it; its other
            // handles belong to the same owner (a step's buffers) and go at the same time. While `memory` is in use,
            // the tensor is not: both are reached through this one value.
            unsafe { Tensor::from_blob(data, &[len], &[1], Kind::Float, Device::Cpu) }
        };
        Self { tensors: numbers(&mut memory).into_iter().map(view).collect(), memory }
    }

    pub(crate) fn tensor(&self, index: usize) -> &Tensor {
        &self.tensors[index]
    }

    pub(crate) fn tensor_mut(&mut self, index: usize) -> &mut Tensor {
        &mut self.tensors[index]
    }

    pub(crate) fn memory(&mut self) -> &mut M {
        &mut self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_share_the_tensors_memory() {
        let tensor = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0]);
        with_slice_mut(&mut tensor.narrow(0, 1, 2), |slice| slice.copy_from_slice(&[5.0_f32, 6.0]));
        with_slice(&tensor, |slice: &[f32]| assert_eq!(slice, [1.0_f32, 5.0, 6.0, 4.0]));
        with_slice_mut(&mut tensor.narrow(0, 4, 0), |slice: &mut [f32]| assert!(slice.is_empty()));
        let half = tensor.to_kind(Kind::BFloat16);
        with_slice(&half, |slice: &[bf16]| assert_eq!(slice, [1.0, 5.0, 6.0, 4.0].map(bf16::from_f32)));
    }

    #[test]
    fn lent_numbers_are_the_tensors() {
        let mut lent = Lent::new(vec![1.0, 2.0, 3.0], |numbers| vec![numbers]);
        let _ = lent.tensor_mut(0).narrow(0, 1, 2).fill_(5.0);
        assert_eq!(*lent.memory(), [1.0, 5.0, 5.0]);
        lent.memory()[0] = 7.0;
        assert_eq!(Vec::<f32>::try_from(lent.tensor(0)).unwrap(), [7.0, 5.0, 5.0]);
        assert_eq!(
            Lent::new(Vec::new(), |numbers: &mut Vec<f32>| vec![numbers.as_mut_slice()]).tensor(0).size(),
            [0]
        );
    }

    #[test]
    #[should_panic(expected = "gaps")]
    fn a_tensor_with_gaps_has_no_view() {
        let tensor = Tensor::zeros([4, 2], (Kind::Float, Device::Cpu));
        with_slice(&tensor.select(1, 0), |_: &[f32]| ());
    }

    #[test]
    #[should_panic(expected = "another kind")]
    fn a_kind_has_views_of_its_own() {
        with_slice(&Tensor::zeros([4], (Kind::Double, Device::Cpu)), |_: &[f32]| ());
    }
}
