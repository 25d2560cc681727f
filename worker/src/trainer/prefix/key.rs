//! What a cached activation depends on, as one digest: equal digests, equal bits.

use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

use super::tables::Table;
use crate::device::LIBTORCH_VERSION;
use crate::model::ResNet;
use crate::plan::Plan;

/// Changes with what is computed or how it is laid out.
const FORMAT: &str = "prefix 1";
/// 4 MiB at a time, as digests of weights take them.
const DIGEST_CHUNK_LEN: usize = 1 << 20;

pub(super) type Key = [u8; 32];

/// Of all values that no training changes; those before the boundary are among them.
pub(in crate::trainer) fn frozen_digest(model: &ResNet) -> [u8; 32] {
    let mut hash = Sha256::new();
    add(&mut hash, model.frozen(), 0..model.frozen().numel());
    let mut start = 0;
    let all = model.statistics().numel();
    for moving in model.moving_statistics() {
        add(&mut hash, model.statistics(), start..moving.start);
        start = moving.end;
    }
    add(&mut hash, model.statistics(), start..all);
    hash.finalize().into()
}

fn add(hash: &mut Sha256, flat: &Tensor, range: std::ops::Range<usize>) {
    let mut bytes = vec![0; DIGEST_CHUNK_LEN.min(range.len()) * size_of::<f32>()];
    for start in range.clone().step_by(DIGEST_CHUNK_LEN) {
        let len = DIGEST_CHUNK_LEN.min(range.end - start);
        flat.narrow(0, start as i64, len as i64).copy_data_u8(&mut bytes, len);
        hash.update(&bytes[..len * size_of::<f32>()]);
    }
}

/// The key of `tables` in blocks of `block_rows`, by a network whose [`frozen_digest`] is `frozen`.
pub(super) fn key(
    plan: &Plan,
    model: &ResNet,
    frozen: [u8; 32],
    tables: &[Table],
    block_rows: usize,
) -> Key {
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
