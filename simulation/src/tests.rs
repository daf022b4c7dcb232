//! The engine at work: a few cases of every kind, rolling updates that turn back everywhere, and the engine itself.

mod engine;
mod kills;
mod rolls;
mod storms;
