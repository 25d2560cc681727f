//! A 3x3 convolution over a small map as matrix products of what its kernel really meets.
//!
//! On a 2x2 map more than half of a 3x3 kernel's products are with the padding, on a 1x1 map eight ninths. In the layout
//! `[N, H, W, C]` the inputs that one row of the kernel meets lie side by side, and so do their weights in `[O, kh, kw, I]`:
//! each (output position, kernel row) is one product of views, without a copy.

/// Sides of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) height: i64,
    pub(super) width: i64,
}

impl Grid {
    pub(super) fn positions(self) -> i64 {
        self.height * self.width
    }

    /// What a convolution with `kernel / 2` of padding makes of it.
    pub(super) fn strided(self, kernel: i64, stride: i64) -> Self {
        let side = |length: i64| (length + 2 * (kernel / 2) - kernel) / stride + 1;
        Self { height: side(self.height), width: side(self.width) }
    }
}

/// Columns of the matrices `[N, H * W * I]`, `[O, kh * kw * I]` and `[N, H' * W' * O]` that one product takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tap {
    pub(super) input: i64,
    pub(super) weight: i64,
    /// Of inputs and weights.
    pub(super) len: i64,
    pub(super) output: i64,
    /// The first one of its output position.
    pub(super) first: bool,
}

/// Where the kernel meets the map along one axis, from the output position on.
fn overlap(side: i64, position: i64, kernel: i64, stride: i64) -> (i64, std::ops::Range<i64>) {
    let start = position * stride - kernel / 2;
    (start, start.max(0)..(start + kernel).min(side))
}

/// All products of a convolution, output position by output position.
pub(super) fn taps(input: Grid, (inputs, outputs): (i64, i64), kernel: i64, stride: i64) -> Vec<Tap> {
    let output = input.strided(kernel, stride);
    let mut taps = Vec::new();
    for y in 0..output.height {
        for x in 0..output.width {
            let (top, rows) = overlap(input.height, y, kernel, stride);
            let (left, columns) = overlap(input.width, x, kernel, stride);
            for row in rows.clone() {
                taps.push(Tap {
                    input: (row * input.width + columns.start) * inputs,
                    weight: ((row - top) * kernel + columns.start - left) * inputs,
                    len: (columns.end - columns.start) * inputs,
                    output: (y * output.width + x) * outputs,
                    first: row == rows.start,
                });
            }
        }
    }
    taps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_those_of_pytorchs_convolutions() {
        let side = |length, kernel, stride| Grid { height: length, width: 3 }.strided(kernel, stride).height;
        assert_eq!(
            [side(32, 7, 2), side(8, 3, 2), side(8, 3, 1), side(8, 1, 2), side(1, 3, 2)],
            [16, 4, 8, 4, 1]
        );
    }

    #[test]
    fn a_single_pixel_meets_the_kernels_centre_alone() {
        let grid = Grid { height: 1, width: 1 };
        let tap = Tap { input: 0, weight: 4 * 5, len: 5, output: 0, first: true };
        assert_eq!(taps(grid, (5, 7), 3, 1), [tap]);
        assert_eq!(taps(grid, (5, 7), 3, 2), [tap]);
    }

    #[test]
    fn a_two_by_two_map_meets_four_ninths_of_the_kernel() {
        let grid = Grid { height: 2, width: 2 };
        let met = taps(grid, (1, 1), 3, 1);
        assert_eq!(met.iter().map(|tap| tap.len).sum::<i64>(), 16);
        assert_eq!(met.iter().filter(|tap| tap.first).count(), 4);
        assert_eq!(met[0], Tap { input: 0, weight: 4, len: 2, output: 0, first: true });
        assert_eq!(met[7], Tap { input: 2, weight: 3, len: 2, output: 3, first: false });
    }
}
