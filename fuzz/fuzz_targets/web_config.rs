//! See `gitsocket::fuzzing::web_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gitsocket::fuzzing::web_config(data));
