//! Batched crops, each of another place and size, resampled to one size.
//!
//! Bilinear with antialias, as torchvision's `RandomResizedCrop` does it (`antialias=True`): a triangle as wide as the
//! crop is shrunk, over the pixels inside the crop alone. `grid_sample` would be one call, but it has no antialias, and a
//! matrix product per picture would be rounded otherwise in another batch. So: per axis as many gathers as the widest
//! triangle has pixels (two unless stored pictures are larger than the network's), each weighed and added in order. The
//! result differs from torchvision's by rounding alone, as the axes take turns the other way round: rows are contiguous
//! here, so they go first.

use tch::{Device, Kind, Tensor};

use crate::data::DataError;
use crate::data::rectangle::Rectangle;

/// Bytes `[N, H, W, 3]`, each cropped to its rectangle, as f32 `[N, size, size, 3]`, 0 to 255.
pub(super) fn crop(bytes: &Tensor, crops: &[Rectangle], size: i64) -> Result<Tensor, DataError> {
    let shape = bytes.size();
    let (count, height, width, device) = (shape[0], shape[1], shape[2], bytes.device());
    let picture = Tensor::f_arange(count, (Kind::Int64, device))?.f_unsqueeze(-1)?;

    let spans: Vec<(u32, u32)> = crops.iter().map(|crop| (crop.top, crop.height)).collect();
    let rows = bytes.f_reshape([count * height, width * 3])?;
    let first_row = picture.f_mul_scalar(height)?;
    let rows = blend(&taps(&spans, height, size, device)?, |index| {
        let taken = rows.f_index_select(0, &index.f_add(&first_row)?.f_view(-1)?)?;
        Ok(taken.f_view([count, size, width * 3])?.f_to_kind(Kind::Float)?)
    })?;

    let spans: Vec<(u32, u32)> = crops.iter().map(|crop| (crop.left, crop.width)).collect();
    let pixels = rows.f_view([count * size * width, 3])?;
    let row = Tensor::f_arange(count * size, (Kind::Int64, device))?.f_mul_scalar(width)?;
    let row = row.f_view([count, size, 1])?;
    let mut columns = taps(&spans, width, size, device)?;
    for tap in &mut columns {
        tap.weight = tap.weight.f_unsqueeze(1)?;
    }
    blend(&columns, |index| {
        let taken = pixels.f_index_select(0, &index.f_unsqueeze(1)?.f_add(&row)?.f_view(-1)?)?;
        Ok(taken.f_view([count, size, size, 3])?)
    })
}

/// One pixel of the triangle along one axis, for every picture and place.
struct Tap {
    /// i64 `[N, size]`, within the picture.
    index: Tensor,
    /// f32 `[N, size]`; 0 for what is outside the crop or the triangle.
    weight: Tensor,
}

/// PyTorch's weights (`compute_indices_weights_aa`) for spans (start, length) of an axis of `length` pixels.
fn taps(spans: &[(u32, u32)], length: i64, size: i64, device: Device) -> Result<Vec<Tap>, DataError> {
    let column = |value: &dyn Fn(f32, f32) -> f32| {
        let values: Vec<f32> =
            spans.iter().map(|(start, length)| value(*start as f32, *length as f32)).collect();
        Tensor::f_from_slice(&values)?.f_to_device(device)?.f_unsqueeze(-1)
    };
    let scale = |length: f32| length / size as f32;
    let start = column(&|start, _| start)?;
    let end = column(&|_, length| length)?;
    let reach = column(&|_, length| scale(length).max(1.0))?;
    let places = Tensor::f_arange(size, (Kind::Float, device))?.f_add_scalar(0.5)?;
    let centre = places.f_mul(&column(&|_, length| scale(length))?)?;
    let first = centre.f_sub(&reach)?.f_add_scalar(0.5)?.f_floor()?;

    // As many as the widest crop can need, whatever the crops of this batch are.
    let count = (2 * length + size - 1) / size;
    let mut taps = Vec::new();
    let mut total = centre.f_zeros_like()?;
    for tap in 0..count.max(2) {
        let pixel = first.f_add_scalar(tap)?;
        let distance = pixel.f_add_scalar(0.5)?.f_sub(&centre)?.f_div(&reach)?.f_abs()?;
        let inside = pixel.f_ge(0)?.f_logical_and(&pixel.f_lt_tensor(&end)?)?;
        let weight = distance.f_rsub_scalar(1.0)?.f_clamp_min(0.0)?.f_mul(&inside.f_to_kind(Kind::Float)?)?;
        total = total.f_add(&weight)?;
        let index = pixel.f_add(&start)?.f_to_kind(Kind::Int64)?.f_clamp(0, length - 1)?;
        taps.push(Tap { index, weight });
    }
    for tap in &mut taps {
        tap.weight = tap.weight.f_div(&total)?;
    }
    Ok(taps)
}

/// The weighed sum of what `take` finds at the taps' indices, in their order.
fn blend(taps: &[Tap], take: impl Fn(&Tensor) -> Result<Tensor, DataError>) -> Result<Tensor, DataError> {
    let mut sum: Option<Tensor> = None;
    for tap in taps {
        let mut part = take(&tap.index)?;
        let _ = part.f_mul_(&tap.weight.f_unsqueeze(-1)?)?;
        sum = Some(match sum {
            None => part,
            Some(mut sum) => sum.f_add_(&part)?,
        });
    }
    Ok(sum.expect("there are at least two taps"))
}
