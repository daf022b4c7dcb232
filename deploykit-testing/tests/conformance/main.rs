//! The conformance suite, passed by the backends that need nothing but this computer.
#![allow(clippy::unwrap_used, reason = "a harness that cannot be made is a failed test")]

mod stores;
mod world;
