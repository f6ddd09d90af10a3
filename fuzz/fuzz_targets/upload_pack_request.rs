//! See `gitsocket::fuzzing::upload_pack_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gitsocket::fuzzing::upload_pack_request(data));
