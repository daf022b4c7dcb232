#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod error;
mod image;
mod judge;
mod name;
mod provider;
mod release;
mod routing;
mod store;
mod time;

pub use error::{Error, ErrorKind, Result};
pub use image::{Digest, ImageRef, PinnedImage};
pub use judge::Judge;
pub use name::{GateName, Place, RevisionId, Role, RolloutId, ServiceName, TaskId};
pub use provider::{
    BalancerCapability, BalancerState, Endpoint, Entry, GateContext, HealthGate, Launch,
    LoadBalancer, Measurement, Orchestrator, OrchestratorCapability, PlaceState, Registry,
    ServiceState, Target, TargetHealth, Task, TaskState, Verdict,
};
pub use release::{Limits, Mount, Readiness, Release, SecretRef, ServiceSpec};
pub use routing::{Routing, Weight, Weights};
pub use store::{DirectoryStore, Journal, Lease, MemoryStore, Owner, Store};
pub use time::{Clock, SystemClock, Timestamp};
