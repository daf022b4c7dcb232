//! The orchestrator against a real Docker Engine.

mod lifecycle;
mod refusals;
mod secrets;
mod settings;
mod trouble;
mod world;
