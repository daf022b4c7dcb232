//! Plans, what they tell, and what comes of them in the world.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;
mod estimates;
mod hooks;
mod jobs;
mod strategies;

use common::world;
