//! See `gitsocket::fuzzing::request_line`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gitsocket::fuzzing::request_line(data));
