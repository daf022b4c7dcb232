//! The four traits that a backend implements.
//!
//! Each method's doc says its contract, whether it can be repeated, what dropping its future means, and its errors.
//! Calls may be repeated at any time with the same arguments, after a lost answer or a crash: twice equals once. A
//! future may be dropped while it waits; the change may or may not have been made then, and the caller observes before
//! it goes on, or makes the same call again, which ends as if it had not been dropped. Calls may be made at the same time,
//! from several processes: what comes of it is what comes of them one after the other, though some of them may have to be
//! told a temporary failure. A provider never retries beyond a second or two: that is the driver's business, which knows the bound.

mod approver;
mod balancer;
mod forward;
mod gate;
mod hook;
mod job;
mod orchestrator;
mod publish;
mod registry;

pub use approver::{Approval, ApprovalRequest, Approver};
pub use balancer::{
    BalancerCapability, BalancerState, Endpoint, Entry, LoadBalancer, Target, TargetHealth,
};
pub use gate::{GateContext, HealthGate, Measurement, Verdict};
pub use hook::{Hook, HookContext, Point};
pub use job::{JobEnd, JobRun, JobState};
pub use orchestrator::{
    Launch, Orchestrator, OrchestratorCapability, PlaceState, ServiceState, Task, TaskState,
};
pub use publish::{ImageSource, Publish, PublishEvent};
pub use registry::Registry;
