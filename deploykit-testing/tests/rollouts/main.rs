//! Rollouts under attack: calls that fail, hang or lose their answers, deployers that die or freeze, clocks that jump,
//! people who change the world meanwhile.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod back;
mod cloud;
mod damage;
mod down;
mod meanwhile;
mod once;
mod people;
mod rivals;
mod splits;
mod stage;
mod status;
mod sweeps;
mod together;
