//! See `lockstep_worker::collective::astray`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lockstep_worker::collective::astray::frames(data));
