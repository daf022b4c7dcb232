#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "http-gate")]
mod client;
mod deployer;
mod driver;
mod error;
mod gate;
mod hook;
mod image;
mod judge;
mod machine;
mod name;
mod outcome;
mod plan;
#[cfg(feature = "command-gate")]
mod process;
mod provider;
mod release;
mod routing;
#[cfg(all(unix, feature = "signals"))]
mod signals;
mod store;
mod strategy;
mod time;

/// For implementing the provider traits.
pub use async_trait::async_trait;
pub use deployer::{
    Change, Control, Deployer, DeployerBuilder, Missing, Past, Rollout, Status, Supervised, Updates,
};
pub use driver::{Ask, Update, UpdateKind};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "command-gate")]
#[cfg_attr(docsrs, doc(cfg(feature = "command-gate")))]
pub use gate::CommandGate;
#[cfg(feature = "http-gate")]
#[cfg_attr(docsrs, doc(cfg(feature = "http-gate")))]
pub use gate::HttpGate;
pub use gate::{AllOf, AnyOf, FunctionGate, TcpGate, all_of, any_of, gate_fn};
#[cfg(feature = "command-gate")]
#[cfg_attr(docsrs, doc(cfg(feature = "command-gate")))]
pub use hook::CommandHook;
#[cfg(feature = "http-gate")]
#[cfg_attr(docsrs, doc(cfg(feature = "http-gate")))]
pub use hook::HttpHook;
pub use hook::{FunctionHook, GateHook, hook_fn, hook_of};
pub use image::{Digest, ImageRef, PinnedImage};
pub use judge::Judge;
pub use name::{
    ApproverName, GateName, HookName, JobId, JobName, Place, RevisionId, Role, RolloutId,
    ServiceName, TaskId,
};
pub use outcome::{Outcome, PartTime, Report, Roles, StepTime};
pub use plan::{
    Amount, Draft, Estimate, Fingerprint, GateUse, HookUse, Job, JobUse, OnOrphan, Plan, Roll,
    Standing, Step,
};
pub use provider::{
    Approval, ApprovalRequest, Approver, BalancerCapability, BalancerState, Endpoint, Entry,
    GateContext, HealthGate, Launch, LoadBalancer, Measurement, Orchestrator,
    OrchestratorCapability, PlaceState, Registry, ServiceState, Target, TargetHealth, Task,
    TaskState, Verdict,
};
pub use provider::{Hook, HookContext, ImageSource, Point, Publish, PublishEvent};
pub use provider::{JobEnd, JobRun, JobState};
pub use release::{Limits, Mount, Readiness, Release, SecretRef, ServiceSpec};
pub use routing::{Routing, Weight, Weights};
#[cfg(all(unix, feature = "signals"))]
#[cfg_attr(docsrs, doc(cfg(all(unix, feature = "signals"))))]
pub use signals::Signals;
pub use store::{DirectoryStore, Journal, Lease, MemoryStore, Owner, Store};
pub use strategy::{BlueGreen, Canary, Context, Rolling, Strategy};
pub use time::{Clock, SystemClock, Timestamp};
