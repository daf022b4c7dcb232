//! Puts a new version of a service into production without losing a request, and gets back by itself when it is bad.
pub use deploykit_core as core;
pub use deploykit_core::*;
#[cfg(feature = "docker")]
pub use deploykit_docker as docker;
#[cfg(feature = "testing")]
pub use deploykit_testing as testing;
