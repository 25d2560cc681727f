//! Pictures of any size made to fit the network: bilinear with antialias, then the centre of what is longer.
//!
//! As torchvision's `Resize(size)` and `CenterCrop(size)` on float tensors, which is PyTorch's
//! `interpolate(mode="bilinear", antialias=True)`.

use tch::Tensor;

use super::DataError;

/// f32 `[N, H, W, 3]` to f32 `[N, size, size, 3]`, contiguous: the shorter side becomes `size`, the longer one is cut
/// evenly.
pub(super) fn fit(pictures: &Tensor, size: i64) -> Result<Tensor, DataError> {
    let shape = pictures.size();
    let (height, width) = (shape[1], shape[2]);
    // The shape of [N, 3, H, W] over the same memory: libtorch resizes channels-last without a copy.
    let planes = pictures.f_permute([0, 3, 1, 2])?;
    let to = [scaled(height, height.min(width), size), scaled(width, height.min(width), size)];
    let planes = planes.f_internal_upsample_bilinear2d_aa(to, false, None, None)?;
    let planes = planes.f_narrow(2, margin(to[0], size), size)?.f_narrow(3, margin(to[1], size), size)?;
    Ok(planes.f_permute([0, 2, 3, 1])?.f_contiguous()?)
}

/// Torchvision's: the longer side is cut off to whole pixels, never rounded up.
fn scaled(side: i64, shorter: i64, size: i64) -> i64 {
    side * size / shorter
}

/// Torchvision's `int(round((side - size) / 2))`, where Python rounds halves to even.
fn margin(side: i64, size: i64) -> i64 {
    let spare = side - size;
    spare / 2 + i64::from(spare % 4 == 3)
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn margins_are_pythons() {
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|spare| margin(10 + spare, 10)), [0, 0, 1, 2, 2, 2, 3, 4]);
        assert_eq!((scaled(500, 333, 224), scaled(333, 333, 224)), (336, 224));
    }

    /// Weights by hand. Halving: a triangle 4 pixels wide, 1/4 and 3/4 on each side, so 1:3:3:1, and 3:3:1 at the border.
    #[test]
    fn halving_weighs_pixels_by_a_triangle() {
        let row = [0.0_f32, 0.2, 0.4, 1.0];
        let pictures = Tensor::from_slice(&row).view([1, 1, 4, 1]).expand([1, 4, 4, 3], false).contiguous();
        let fitted = fit(&pictures, 2).unwrap();
        assert_eq!(fitted.size(), [1, 2, 2, 3]);
        let expected = [(3.0 * 0.0 + 3.0 * 0.2 + 0.4) / 7.0, (0.2 + 3.0 * 0.4 + 3.0 * 1.0) / 7.0];
        for (y, x, channel) in [(0, 0, 0), (1, 0, 2), (0, 1, 1), (1, 1, 0)] {
            let found = fitted.double_value(&[0, y, x, channel]);
            assert!((found - expected[x as usize]).abs() < 1e-6, "{found} at {y} {x} {channel}");
        }
    }

    /// Doubling: between centres at 1/4 and 3/4 of the way, and flat beyond the outermost.
    #[test]
    fn doubling_interpolates_between_centres() {
        let pictures = Tensor::from_slice(&[0.0_f32, 1.0]).view([1, 1, 2, 1]).expand([1, 2, 2, 3], false);
        let fitted = fit(&pictures.contiguous(), 4).unwrap().select(0, 0).select(0, 3).select(-1, 1);
        let found = Vec::<f32>::try_from(&fitted).unwrap();
        let near = |(found, expected): (&f32, f32)| (found - expected).abs() < 1e-6;
        assert!(found.iter().zip([0.0, 0.25, 0.75, 1.0]).all(near), "{found:?}");
    }

    #[test]
    fn the_middle_of_the_longer_side_stays() {
        let columns = Tensor::arange(9, (Kind::Float, tch::Device::Cpu));
        let wide = columns.view([1, 1, 9, 1]).expand([2, 4, 9, 3], false).contiguous();
        let fitted = fit(&wide, 4).unwrap();
        assert_eq!((fitted.size(), fitted.is_contiguous()), (vec![2, 4, 4, 3], true));
        // 5 columns too many: 2 go on the left.
        let row = Vec::<f32>::try_from(&fitted.select(0, 1).select(0, 2).select(-1, 0).contiguous()).unwrap();
        assert_eq!(row, [2.0, 3.0, 4.0, 5.0]);
        let tall = wide.permute([0, 2, 1, 3]).contiguous();
        assert_eq!(fit(&tall, 4).unwrap(), fitted.permute([0, 2, 1, 3]));
    }
}
