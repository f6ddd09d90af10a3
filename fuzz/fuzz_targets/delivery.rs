//! See `gitsocket::fuzzing::delivery`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gitsocket::fuzzing::delivery(data));
