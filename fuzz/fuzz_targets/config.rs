//! See `gitsocket::fuzzing::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gitsocket::fuzzing::config(data));
