//! What deploykit reads from outside, fed with anything. Each function here takes any bytes, and panics when something is wrong
//! with what was made of them.
//!
//! A target in `targets/` hands them to libFuzzer; the seeds in `corpus/` are also tried by the ordinary tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a program that tests may panic: that is how it tells what it found"
)]

// The parsers of another crate, which are private there: as files, so that nothing has to be shown to its users for this.
#[allow(dead_code, reason = "only its parsers are wanted here")]
#[path = "../../deploykit-docker/src/haproxy/answers.rs"]
mod answers;
#[allow(dead_code, reason = "only its parsers are wanted here")]
#[path = "../../deploykit-docker/src/oci/manifest.rs"]
mod manifests;
mod mutate;
mod stage;
#[cfg(test)]
mod tests;
mod texts;

pub use mutate::mutate;
pub use stage::{journal, plan};
pub use texts::{haproxy, image, manifest, store};
