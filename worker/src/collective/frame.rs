//! The header before every transfer, so that members out of step notice it instead of adding wrong numbers.

use std::fmt;

pub(crate) const HEADER_BYTES: usize = 24;

/// What follows on the wire. Unknown kinds can arrive, hence a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub u32);

impl Kind {
    /// Sums of sub-trees, for the receiver's chunk.
    pub const PARTIALS: Self = Self(1);
    /// The sender's finished chunk.
    pub const FINISHED: Self = Self(2);
    /// An `all_gather`'s payload.
    pub const PAYLOAD: Self = Self(3);
    /// A replica's state.
    pub const STATE: Self = Self(4);
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::PARTIALS => "partial sums",
            Self::FINISHED => "finished sums",
            Self::PAYLOAD => "payload",
            Self::STATE => "state",
            Self(kind) => return write!(f, "unknown kind {kind}"),
        })
    }
}

/// Announces `length_bytes` of one kind, in the operation with this sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub sequence: u64,
    pub length_bytes: u64,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of operation {} in {} bytes", self.kind, self.sequence, self.length_bytes)
    }
}

impl Header {
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.kind.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..].copy_from_slice(&self.length_bytes.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; HEADER_BYTES]) -> Self {
        let u64_at = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(field)
        };
        Self {
            // The upper half of the first field is zero; another peer's garbage shows as an unknown kind.
            kind: Kind(u32::try_from(u64_at(0)).unwrap_or(u32::MAX)),
            sequence: u64_at(8),
            length_bytes: u64_at(16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_wire() {
        let header = Header { kind: Kind::FINISHED, sequence: u64::MAX - 1, length_bytes: 94_114_088 };
        assert_eq!(Header::from_bytes(header.to_bytes()), header);
        assert_eq!(header.to_string(), "finished sums of operation 18446744073709551614 in 94114088 bytes");
        assert!(Header::from_bytes([0xff; HEADER_BYTES]).to_string().starts_with("unknown kind"));
    }
}
