//! The contract of the control plane, generated from `lockstep/v1`.
//!
//! Add fields freely inside v1; never reuse a number. A breaking change is `v2` beside it.

/// Version 1 of the contract.
pub mod v1 {
    // Generated code is not ours to format or to document.
    #![allow(missing_debug_implementations, unreachable_pub, clippy::all)]
    tonic::include_proto!("lockstep.v1");

    /// The contract itself, as an encoded `FileDescriptorSet`: for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
