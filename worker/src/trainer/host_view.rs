//! Flat tensors on the CPU seen as slices, so that the exchange reads and writes them without a copy.
//!
//! One of the two files with `unsafe`: tch hands out raw pointers only. Views live for one call: a tensor's other
//! handles could change or free what a longer-lived view shows.
#![allow(unsafe_code)]

use tch::{Device, Kind, Tensor};

/// Calls `look` with the elements of `tensor`.
///
/// # Panics
/// If it is not a dense f32 tensor on the CPU: the trainer made it, so that would be a mistake in the trainer.
pub(super) fn with_slice<R>(tensor: &Tensor, look: impl FnOnce(&[f32]) -> R) -> R {
    let (data, len) = checked(tensor);
    // SAFETY: `data` points to `len` f32 in a row, aligned, alive as long as `tensor` (see `checked`). tch tensors are not
    // `Sync`, so no other thread has this handle, and `look` is given no way to write through another one: the
    // trainer's closures only add the slice elsewhere or send it, without touching tensors.
    look(unsafe { std::slice::from_raw_parts(data, len) })
}

/// Calls `change` with the elements of `tensor`, to be changed in place.
///
/// # Panics
/// As [`with_slice`].
pub(super) fn with_slice_mut<R>(tensor: &mut Tensor, change: impl FnOnce(&mut [f32]) -> R) -> R {
    let (data, len) = checked(tensor);
    // SAFETY: as in `with_slice`; `&mut` keeps this handle to `change`, and the trainer makes no view of another handle
    // of the same storage inside it (the gradient and the sum are two storages).
    change(unsafe { std::slice::from_raw_parts_mut(data, len) })
}

fn checked(tensor: &Tensor) -> (*mut f32, usize) {
    assert_eq!(tensor.device(), Device::Cpu, "a view of a tensor that is not on the CPU");
    assert_eq!(tensor.kind(), Kind::Float, "a view of a tensor of another kind");
    assert!(tensor.is_contiguous(), "a view of a tensor with gaps");
    let len = tensor.numel();
    if len == 0 {
        // An empty tensor may have no storage; a slice needs a pointer that is not null.
        return (std::ptr::NonNull::dangling().as_ptr(), 0);
    }
    (tensor.data_ptr().cast(), len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_share_the_tensors_memory() {
        let tensor = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0]);
        with_slice_mut(&mut tensor.narrow(0, 1, 2), |slice| slice.copy_from_slice(&[5.0, 6.0]));
        with_slice(&tensor, |slice| assert_eq!(slice, [1.0, 5.0, 6.0, 4.0]));
        with_slice_mut(&mut tensor.narrow(0, 4, 0), |slice| assert!(slice.is_empty()));
    }

    #[test]
    #[should_panic(expected = "gaps")]
    fn a_tensor_with_gaps_has_no_view() {
        let tensor = Tensor::zeros([4, 2], (Kind::Float, Device::Cpu));
        with_slice(&tensor.select(1, 0), |_| ());
    }

    #[test]
    #[should_panic(expected = "another kind")]
    fn only_f32_has_a_view() {
        with_slice(&Tensor::zeros([4], (Kind::Double, Device::Cpu)), |_| ());
    }
}
