//! What a cached activation depends on, as one digest: equal digests, equal bits.

use sha2::{Digest, Sha256};
use tch::Device;

use super::tables::Table;
use crate::device::LIBTORCH_VERSION;
use crate::model::ResNet;
use crate::plan::Plan;

/// Changes with what is computed or how it is laid out.
const FORMAT: &str = "prefix 1";

pub(super) type Key = [u8; 32];

/// The key of `tables` in blocks of `block_rows`, by a network whose frozen values have the digest `frozen`.
pub(super) fn key(plan: &Plan, model: &ResNet, frozen: [u8; 32], tables: &[Table], block_rows: usize) -> Key {
    let device = match model.device() {
        Device::Cpu => "cpu",
        _ => "cuda",
    };
    let data = &plan.data;
    // `Debug` tells numbers to the bit and texts with their ends.
    let about = format!(
        "{:?}",
        (
            (FORMAT, env!("CARGO_PKG_VERSION"), LIBTORCH_VERSION, device, plan.threads),
            (&plan.model.name, model.boundary(), plan.precision),
            (&data.digest, data.image_size, &data.mean, &data.std, block_rows),
        )
    );
    let mut hash = Sha256::new();
    hash.update(about);
    hash.update(frozen);
    for table in tables {
        hash.update(format!("{:?}", (table.split, table.rows(), table.ids.len())));
        table.ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    }
    hash.finalize().into()
}
