//! HAProxy as load balancer, against the real one in a container, with real targets.
//!
//! The images are those that `cargo xtask parts` makes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that meets what it did not expect fails"
)]

mod damage;
mod lifecycle;
mod refusals;
mod routing;
mod sticky;
mod targets;
mod tcp;
mod tls;
mod world;
