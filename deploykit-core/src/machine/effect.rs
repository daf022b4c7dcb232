use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::{ApproverName, GateName, HookName, Place, RevisionId, TaskId};
use crate::provider::{JobRun, Point};
use crate::release::Release;
use crate::routing::Routing;
use crate::time::Timestamp;

/// Names one wish of the machine: the operation's number in the rollout, the part of it, and how often that was wanted.
/// Replaying the journal gives the same wishes the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct EffectId(pub u32, pub u32, pub u32);

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A call that the machine wants made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Effect {
    pub(crate) id: EffectId,
    pub(crate) call: Call,
}

/// What is to be called. A mutation that has begun is never cancelled, only awaited.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    /// Make the release known; answered by `Registered`.
    Register { release: Box<Release> },
    /// Look at the service; answered by `Surveyed`.
    Survey,
    /// Mutation: bring a place up to so many tasks.
    Launch { place: Place, revision: RevisionId, count: u32 },
    /// Wait until so many tasks of a place are ready and take requests. `serving` tasks get requests already, and have to
    /// stay healthy meanwhile. A patient wait does not end early because a task failed: it is for the side that there is
    /// no alternative to.
    AwaitHealthy { place: Place, count: u32, serving: u32, until: Timestamp, patient: bool },
    /// Mutation: set the routing, and read it back until it is stable.
    Route(Change),
    /// Mutation: open or close the test route, and read it back.
    Test { place: Option<Place>, unconfirmed: bool },
    /// Measure a gate once, not before a time.
    Measure { gate: GateName, not_before: Timestamp, timeout: Duration },
    /// Wait until a time.
    Wait { until: Timestamp },
    /// Answer only when a place has fewer healthy tasks than this, or the routing is another.
    Guard { place: Place, count: u32, routing: Option<Routing> },
    /// Take tasks of a place out of rotation, all where none are named, and wait until they answer no request any more,
    /// or for a time: from when they got no more requests, so that whatever delays the call costs the requests nothing.
    Drain { place: Place, tasks: Vec<TaskId>, others: bool, within: Duration },
    /// Mutation: stop tasks.
    Stop { place: Place, tasks: Vec<TaskId> },
    /// Ask an approver; answered by `Approved` or `Rejected`.
    Ask { approver: ApproverName, until: Timestamp },
    /// Mutation: remove a place.
    Retire { place: Place },
    /// Run a hook; awaited like a mutation, and bounded.
    Hook { hook: HookName, point: Point, why: Option<String>, until: Timestamp },
    /// Start a job, unless it was ever started; never done twice.
    StartJob(JobCall),
    /// Wait for a job's end; awaited like a mutation, and bounded.
    AwaitJob(JobCall),
    /// Nothing outside: the journal's line is the change.
    Decide,
}

/// A job to be started or awaited.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JobCall {
    pub(crate) run: JobRun,
    pub(crate) point: Point,
    /// What it runs.
    pub(crate) release: Box<Release>,
    /// Whether it is known to have been started.
    pub(crate) started: bool,
    /// When it has ended at the latest.
    pub(crate) until: Timestamp,
}

/// A change of the routing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// The routing wanted.
    pub(crate) to: Routing,
    /// What may be there before: what this rollout has set or found. Anything else is somebody else's change.
    pub(crate) ours: Vec<Routing>,
    /// On the way back: a routing of somebody else's that does not include this place is left as it is.
    pub(crate) leaving: Option<Place>,
    /// On the way back: a place that has to have a healthy target when requests are sent to it.
    pub(crate) needs: Option<Place>,
    /// Whether another change may have been accepted that was never read back: what is read now may be older than it.
    pub(crate) unconfirmed: bool,
}

impl Call {
    pub(crate) fn is_mutation(&self) -> bool {
        match self {
            Self::Launch { .. }
            | Self::Stop { .. }
            | Self::Hook { .. }
            | Self::StartJob(_)
            | Self::AwaitJob(_)
            | Self::Route(_)
            | Self::Test { .. }
            | Self::Retire { .. }
            | Self::Decide => true,
            Self::Register { .. }
            | Self::Ask { .. }
            | Self::Survey
            | Self::AwaitHealthy { .. }
            | Self::Measure { .. }
            | Self::Wait { .. }
            | Self::Guard { .. }
            | Self::Drain { .. } => false,
        }
    }

    /// What people are told when it begins, and how long it may take from `now` on: of hooks and jobs, which may take long.
    pub(crate) fn announced(&self, now: Timestamp) -> Option<(String, Duration)> {
        match self {
            Self::Hook { hook, point, until, .. } => {
                Some((format!("hook {hook} at {point}"), until.since(now)))
            }
            Self::StartJob(job) => {
                Some((format!("job {} at {}", job.run.name, job.point), job.run.limit))
            }
            Self::AwaitJob(job) => {
                let what = format!("the wait for job {} at {}", job.run.name, job.point);
                Some((what, job.run.limit))
            }
            _ => None,
        }
    }

    /// For spans and error messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Register { .. } => "register",
            Self::Survey => "survey",
            Self::Launch { .. } => "launch",
            Self::AwaitHealthy { .. } => "await healthy",
            Self::Route(_) => "set routing",
            Self::Test { .. } => "set test route",
            Self::Measure { .. } => "measure",
            Self::Wait { .. } => "wait",
            Self::Guard { .. } => "watch",
            Self::Drain { .. } => "drain",
            Self::Stop { .. } => "stop",
            Self::Ask { .. } => "ask",
            Self::Hook { .. } => "hook",
            Self::StartJob(_) => "start job",
            Self::AwaitJob(_) => "job",
            Self::Retire { .. } => "retire",
            Self::Decide => "decide",
        }
    }
}
