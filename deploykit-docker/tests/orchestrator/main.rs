//! The orchestrator against a real Docker Engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it did not expect fails"
)]

mod front;
mod interference;
mod jobs;
mod lifecycle;
mod refusals;
mod secrets;
mod settings;
mod trouble;
mod world;
