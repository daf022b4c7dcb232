//! Rollouts under attack: calls that fail, hang or lose their answers, deployers that die or freeze, clocks that jump,
//! people who change the world meanwhile.

mod people;
mod splits;
mod stage;
mod sweeps;
mod tap;
