//! Plans as JSON.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| deploykit_fuzz::plan(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match deploykit_fuzz::mutated(data.get(..size).unwrap_or_default(), seed) {
        Some(text) if text.len() <= max_size.min(data.len()) => {
            data.iter_mut().zip(text.bytes()).for_each(|(old, new)| *old = new);
            text.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
});
