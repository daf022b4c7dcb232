//! Manifests of images.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| deploykit_fuzz::manifest(data));
