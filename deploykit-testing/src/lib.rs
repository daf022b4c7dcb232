#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod balancer;
mod behaviour;
mod calls;
mod clock;
pub mod conformance;
mod fault;
mod gate;
mod jobs;
#[cfg(feature = "load")]
pub mod load;
mod orchestrator;
mod outside;
mod past;
mod registry;
mod requests;
mod rng;
mod safety;
mod settings;
mod snapshot;
mod state;
mod tally;
mod tap;
mod tasks;
mod throttle;
mod traffic;
mod world;

pub use balancer::WorldBalancer;
pub use behaviour::Behaviour;
pub use calls::{Call, Operation};
pub use clock::WorldClock;
pub use fault::Fault;
pub use gate::WorldGate;
pub use orchestrator::WorldOrchestrator;
pub use registry::WorldRegistry;
pub use safety::{Breach, Violation};
pub use settings::Settings;
pub use snapshot::{PlaceSnapshot, Snapshot};
pub use tally::{Failure, Tally};
pub use tap::{Blow, Mutation, Part, Tap, Tapped};
pub use throttle::Throttle;
pub use traffic::{RunningTraffic, Traffic};
pub use world::World;
