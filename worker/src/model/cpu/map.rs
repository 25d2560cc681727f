//! Activations of a batch: one row per position of every sample, one column per channel, dense.

use tch::Tensor;

use super::taps::Grid;

/// `[samples * height * width, channels]`.
#[derive(Debug)]
pub(in crate::model) struct Map {
    pub(super) values: Tensor,
    pub(super) grid: Grid,
}

impl Map {
    /// Of images `[N, C, H, W]`, copied only where their strides are not channels-last.
    pub(super) fn from_images(images: &Tensor) -> Self {
        let [_, channels, height, width] = images.size()[..] else { panic!("images have four dimensions") };
        let rows = images.permute([0, 2, 3, 1]).contiguous();
        Self { values: rows.view([-1, channels]), grid: Grid { height, width } }
    }

    /// The same memory as `[N, C, H, W]` with channels-last strides.
    pub(super) fn images(&self) -> Tensor {
        self.spatial().permute([0, 3, 1, 2])
    }

    /// The same memory as `[N, H, W, C]`.
    pub(super) fn spatial(&self) -> Tensor {
        self.values.view([-1, self.grid.height, self.grid.width, self.channels()])
    }

    /// The same memory as `[N, H * W * C]`.
    pub(super) fn by_sample(&self) -> Tensor {
        self.values.view([-1, self.grid.positions() * self.channels()])
    }

    pub(super) fn channels(&self) -> i64 {
        self.values.size()[1]
    }

    pub(super) fn samples(&self) -> i64 {
        self.values.size()[0] / self.grid.positions()
    }

    pub(super) fn alias(&self) -> Self {
        Self { values: self.values.shallow_clone(), grid: self.grid }
    }
}
