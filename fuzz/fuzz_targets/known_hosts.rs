//! See `gitsocket::fuzzing::known_hosts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gitsocket::fuzzing::known_hosts(data));
