//! Rectangles of pixels, one per picture of a batch: what a crop keeps, an eraser wipes, a cut takes from the neighbour.

use tch::{Device, Kind, Tensor};

use super::DataError;

/// In pixels; rows `top..top + height`, columns `left..left + width`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rectangle {
    pub(super) top: u32,
    pub(super) left: u32,
    pub(super) height: u32,
    pub(super) width: u32,
}

impl Rectangle {
    pub(super) fn area(self) -> u64 {
        u64::from(self.height) * u64::from(self.width)
    }

    /// Bool `[N, size, size, 1]`: which pixels lie in their picture's rectangle.
    pub(super) fn mask(rectangles: &[Self], size: i64, device: Device) -> Result<Tensor, DataError> {
        let pixels = Tensor::f_arange(size, (Kind::Int64, device))?;
        let within = |range: fn(&Self) -> (u32, u32)| -> Result<Tensor, DataError> {
            let bound = |of: fn((u32, u32)) -> u32| {
                let bounds: Vec<i64> = rectangles.iter().map(|each| i64::from(of(range(each)))).collect();
                Tensor::f_from_slice(&bounds)?.f_to_device(device)?.f_unsqueeze(-1)
            };
            let (start, end) = (bound(|(start, _)| start)?, bound(|(start, length)| start + length)?);
            Ok(pixels.f_ge_tensor(&start)?.f_logical_and(&pixels.f_lt_tensor(&end)?)?)
        };
        let rows = within(|each| (each.top, each.height))?.f_view([-1, size, 1, 1])?;
        let columns = within(|each| (each.left, each.width))?.f_view([-1, 1, size, 1])?;
        Ok(rows.f_logical_and(&columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_holds_the_pixels_of_the_rectangle_and_no_others() {
        let rectangles = [
            Rectangle { top: 1, left: 2, height: 3, width: 1 },
            Rectangle::default(),
            Rectangle { top: 0, left: 0, height: 4, width: 4 },
        ];
        let mask = Rectangle::mask(&rectangles, 4, Device::Cpu).unwrap();
        assert_eq!(mask.size(), [3, 4, 4, 1]);
        let inside = |n: i64, y: i64, x: i64| mask.int64_value(&[n, y, x, 0]) == 1;
        for (y, x) in (0..4).flat_map(|y| (0..4).map(move |x| (y, x))) {
            assert_eq!(inside(0, y, x), (1..4).contains(&y) && x == 2, "{y} {x}");
            assert!(!inside(1, y, x) && inside(2, y, x));
        }
        assert_eq!(rectangles.map(Rectangle::area), [3, 0, 16]);
    }
}
