//! The conformance suite, passed by the real parts: a Docker Engine, HAProxy, a registry.
//!
//! Each backend is checked as a whole, since a HAProxy or a registry for each promise would take minutes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that meets what it did not expect fails"
)]

mod differential;
mod haproxy;
#[path = "../registry/layout.rs"]
mod layout;
mod registry;
mod tasks;

use std::time::Duration;

/// Far more than anything takes here; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
