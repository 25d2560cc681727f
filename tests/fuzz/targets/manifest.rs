//! See `lockstep_coordinator::fuzz::manifest`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lockstep_coordinator::fuzz::manifest(data));
