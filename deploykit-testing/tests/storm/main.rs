//! Rollouts in a storm: every strategy, with whatever chance brings, thousands of times.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod dice;
mod rolls;
mod sky;
mod weather;
