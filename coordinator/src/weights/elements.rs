//! Elements of the types that weights come in, as the 32-bit floats that Lockstep computes with.

use half::{bf16, f16};

use super::file::Elements;
use crate::model::StateDtype;

impl Elements {
    /// The type's name in PyTorch.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::I64 => "int64",
            Self::Other(name) => name,
        }
    }

    /// The size of one element, for the types that are read.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 | Self::Other(_) => 2,
        }
    }

    /// Whether elements of this type can become those of `dtype`.
    pub(super) fn can_be(&self, dtype: StateDtype) -> bool {
        match dtype {
            StateDtype::F32 => matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16),
            StateDtype::I64 => *self == Self::I64,
        }
    }

    /// Whether they lose or gain bits on the way.
    pub(super) fn is_converted(&self) -> bool {
        matches!(self, Self::F64 | Self::F16 | Self::Bf16)
    }

    /// Makes 32-bit floats of floats; leaves the rest as it is. `None` if the bytes are not `count` elements.
    pub(super) fn convert(&self, bytes: Vec<u8>, count: usize) -> Option<Vec<u8>> {
        if Some(bytes.len()) != count.checked_mul(self.size_bytes()) {
            return None;
        }
        Some(match self {
            Self::F32 | Self::I64 | Self::Other(_) => bytes,
            Self::F64 => floats(&bytes, |value| f64::from_le_bytes(value) as f32),
            Self::F16 => floats(&bytes, |value| f16::from_le_bytes(value).to_f32()),
            Self::Bf16 => floats(&bytes, |value| bf16::from_le_bytes(value).to_f32()),
        })
    }
}

fn floats<const BYTES: usize>(bytes: &[u8], to_f32: impl Fn([u8; BYTES]) -> f32) -> Vec<u8> {
    let (values, _) = bytes.as_chunks::<BYTES>();
    values.iter().flat_map(|value| to_f32(*value).to_le_bytes()).collect()
}

/// Whether little-endian 32-bit floats hold one that is no number to compute with.
pub(super) fn has_non_finite(bytes: &[u8]) -> bool {
    let (values, _) = bytes.as_chunks::<4>();
    values.iter().any(|value| !f32::from_le_bytes(*value).is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(elements: &Elements, bytes: &[u8], count: usize) -> Vec<f32> {
        let bytes = elements.convert(bytes.to_vec(), count).unwrap();
        bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
    }

    #[test]
    fn floats_of_every_width_keep_their_values() {
        // 1.5, -2 and the smallest number that each type has.
        let half = [0x00, 0x3e, 0x00, 0xc0, 0x01, 0x00];
        assert_eq!(converted(&Elements::F16, &half, 3), [1.5, -2.0, 2f32.powi(-24)]);
        let brain = [0xc0, 0x3f, 0x00, 0xc0, 0x01, 0x00];
        assert_eq!(converted(&Elements::Bf16, &brain, 3), [1.5, -2.0, f32::from_bits(1 << 16)]);
        let double: Vec<u8> = [1.5f64, -2.0, 0.1].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(converted(&Elements::F64, &double, 3), [1.5, -2.0, 0.1f32]);
        assert_eq!(converted(&Elements::F32, &0.1f32.to_le_bytes(), 1), [0.1]);
    }

    #[test]
    fn a_size_that_is_not_the_shapes_is_noticed() {
        assert_eq!(Elements::F32.convert(vec![0; 7], 2), None);
        assert_eq!(Elements::F64.convert(vec![0; 8], usize::MAX), None);
    }

    #[test]
    fn numbers_that_are_none_are_seen() {
        let bytes = |value: f32| [1f32.to_le_bytes(), value.to_le_bytes()].concat();
        assert!(!has_non_finite(&bytes(f32::MAX)));
        assert!(has_non_finite(&bytes(f32::NAN)));
        assert!(has_non_finite(&bytes(f32::NEG_INFINITY)));
    }
}
