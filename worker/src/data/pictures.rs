//! Pictures on the device: bytes until they are needed, so that 50,000 small ones take 150 MB, not 600.

use tch::{Device, Kind, Tensor};

use super::DataError;
use super::file::Stored;

/// One part of a data set.
#[derive(Debug)]
pub(super) struct Pictures {
    part: String,
    /// u8 `[N, H, W, 3]`.
    bytes: Tensor,
}

impl Pictures {
    pub(super) fn new(part: &str, stored: &Stored<'_>, device: Device) -> Result<Self, DataError> {
        let shape = stored.shape.map(|length| i64::try_from(length).unwrap_or(i64::MAX));
        let bytes = Tensor::f_from_data_size(stored.images, &shape, Kind::Uint8)?;
        let bytes = bytes.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_to_device(device)?;
        Ok(Self { part: part.to_owned(), bytes })
    }

    /// (height, width).
    pub(super) fn size(&self) -> (i64, i64) {
        let shape = self.bytes.size();
        (shape[1], shape[2])
    }

    pub(super) fn count(&self) -> i64 {
        self.bytes.size()[0]
    }

    /// `ids` as an index on the device, i64 `[N]`. Checked here, because on CUDA a bad index takes the whole context down.
    pub(super) fn rows(&self, ids: &[u32]) -> Result<Tensor, DataError> {
        let samples = self.count();
        if let Some(&id) = ids.iter().find(|id| i64::from(**id) >= samples) {
            return Err(DataError::Sample { part: self.part.clone(), id, samples });
        }
        let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
        Ok(Tensor::f_from_slice(&ids)?.f_to_device(self.bytes.device())?)
    }

    /// Bytes `[N, H, W, 3]` of checked rows.
    pub(super) fn select(&self, rows: &Tensor) -> Result<Tensor, DataError> {
        Ok(self.bytes.f_index_select(0, rows)?)
    }
}
