//! Registries, asked through a real Docker Engine and spoken to directly.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it did not expect fails"
)]

mod credentials;
mod elsewhere;
mod engine;
mod layout;
mod publish;
mod skopeo;
mod tls;
mod token;
mod trouble;
mod world;
