//! What has gone wrong with other tools, in the in-memory world. docs/reports.md says which report each test is about.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod back;
mod limits;
mod lost;
mod races;
#[path = "../rollouts/stage.rs"]
mod stage;
mod stuck;
