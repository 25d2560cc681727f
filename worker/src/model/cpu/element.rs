//! The numbers that activations are made of on a CPU: f32, or bfloat16 with all arithmetic in f32.

use half::bf16;

use crate::model::host_view::Number;

/// Stored as itself, computed with as f32.
pub(super) trait Element: Number + Send + Sync {
    fn load(self) -> f32;

    /// Rounded to the nearest, ties to even.
    fn store(value: f32) -> Self;
}

impl Element for f32 {
    #[inline(always)]
    fn load(self) -> f32 {
        self
    }

    #[inline(always)]
    fn store(value: f32) -> Self {
        value
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn load(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    /// As `half` does it, without its branch, so that loops become vector instructions.
    #[inline(always)]
    fn store(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        // A quiet NaN stays one; its low bits may be all that made it one.
        let nan = (bits >> 16) | 0x40;
        let chosen = if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { rounded };
        Self::from_bits(chosen as u16)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bfloat16_rounds_as_half_does(bits: u32) {
            let value = f32::from_bits(bits);
            prop_assert_eq!(<bf16 as Element>::store(value).to_bits(), bf16::from_f32(value).to_bits());
        }

        #[test]
        fn every_bfloat16_comes_back(bits: u16) {
            let value = bf16::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(value.load().to_bits(), value.to_f32().to_bits());
        }
    }
}
