//! See `gitsocket::fuzzing::name`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gitsocket::fuzzing::name(data));
