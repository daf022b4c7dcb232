//! A rollout described as data.

mod amount;
mod check;
mod display;
mod draft;
mod estimate;
mod job;
mod mermaid;
mod points;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::judge::Judge;
use crate::name::{ApproverName, GateName, HookName, Place, RevisionId, Role, ServiceName};
use crate::provider::Point;
use crate::release::Release;
use crate::routing::{Routing, Weight};

pub use amount::Amount;
pub use draft::Draft;
pub use estimate::Estimate;
pub use job::{Job, JobUse};

/// The version of the plans and journals that this library writes.
pub(crate) const FORMAT: u32 = 1;

/// A rollout as data: what it was made for, what it brings, and its steps. What [`Deployer::plan`](crate::Deployer::plan)
/// shows is exactly what [`Deployer::deploy`](crate::Deployer::deploy) runs.
///
/// Sizes are shares of whatever the service's desired count is at the step. `Display` prints the steps with today's
/// numbers. It is serialisable, and can be shown, kept and reviewed before it is run; it is checked again when it is.
/// How to undo it stands nowhere: that is computed from what was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a plan does nothing until it is deployed"]
#[non_exhaustive]
pub struct Plan {
    /// The version of this form.
    pub format: u32,
    /// The service.
    pub service: ServiceName,
    /// The strategy's name.
    pub strategy: String,
    /// What is to run afterwards.
    pub release: Release,
    /// What runs now, where that is known.
    pub before: Option<Release>,
    /// The place that the new release gets.
    pub candidate: Place,
    /// Whether the candidate still runs, held since an earlier rollout: nothing is started then, and an undo leaves it.
    pub from_held: bool,
    /// Whether it goes back to an earlier release.
    pub back: bool,
    /// The desired count asked for; without it, the service's own at each step.
    pub replicas: Option<u32>,
    /// The world that it was made for.
    pub world: Fingerprint,
    /// What happens, in order. Empty when there is nothing to do.
    pub steps: Vec<Step>,
    /// What whoever finds the rollout without its deployer does.
    pub on_orphan: OnOrphan,
    /// What runs at which point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookUse>,
    /// The jobs that run at which point, after its hooks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobUse>,
}

/// What a plan was made for. On another stable revision or routing it is stale; another desired count does not matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The place that serves and what it runs; none before the first deployment.
    pub stable: Option<Standing>,
    /// A former stable that is still kept.
    pub held: Option<Standing>,
    /// Where requests go.
    pub routing: Routing,
    /// The desired count when it was made.
    pub desired: u32,
}

impl Fingerprint {
    /// What differs between the world of a plan and the one of now, if it matters.
    pub(crate) fn difference(&self, now: &Self) -> Option<String> {
        let show = |standing: &Option<Standing>| match standing {
            Some(standing) => format!("{} in place {}", standing.revision, standing.place),
            None => "nothing".to_owned(),
        };
        if self.stable != now.stable {
            let (then, now) = (show(&self.stable), show(&now.stable));
            return Some(format!("stable was {then} when it was planned and is {now}"));
        }
        if self.held != now.held {
            let (then, now) = (show(&self.held), show(&now.held));
            return Some(format!("held was {then} when it was planned and is {now}"));
        }
        (self.routing != now.routing).then(|| {
            format!("the routing was {} when it was planned and is {}", self.routing, now.routing)
        })
    }
}

/// A revision in a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Where.
    pub place: Place,
    /// What.
    pub revision: RevisionId,
}

/// What is done with a rollout whose deployer died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOrphan {
    /// It is undone.
    #[default]
    Undo,
    /// It goes on where it was.
    Continue,
}

/// A hook named in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookUse {
    /// When it runs.
    pub point: Point,
    /// As it was given to the deployer.
    pub hook: HookName,
    /// How long it may take; longer is a failure.
    #[serde(rename = "within_ms", with = "crate::time::millis")]
    pub within: Duration,
}

/// A gate named in a plan, with the judge of its measurements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateUse {
    /// As it was given to the deployer.
    pub gate: GateName,
    /// How its measurements are judged.
    pub judge: Judge,
}

impl GateUse {
    /// This gate with the default judge.
    pub fn new(gate: impl Into<GateName>) -> Self {
        Self { gate: gate.into(), judge: Judge::default() }
    }

    /// Sets the judge.
    #[must_use]
    pub fn with_judge(mut self, judge: Judge) -> Self {
        self.judge = judge;
        self
    }
}

impl From<&str> for GateUse {
    fn from(gate: &str) -> Self {
        Self::new(gate)
    }
}

impl From<String> for GateUse {
    fn from(gate: String) -> Self {
        Self::new(gate)
    }
}

/// How tasks are replaced in batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Roll {
    /// How many tasks there may be above the desired count.
    pub surge: Amount,
    /// How many of the desired count may be missing or not ready.
    pub unavailable: Amount,
    /// How long a batch is watched after it became healthy.
    #[serde(rename = "min_ready_ms", with = "crate::time::millis")]
    pub min_ready: Duration,
    /// How long a batch may take to become healthy.
    #[serde(rename = "within_ms", with = "crate::time::millis")]
    pub within: Duration,
    /// How long requests in flight may take before an old task is stopped.
    #[serde(rename = "drain_ms", with = "crate::time::millis")]
    pub drain: Duration,
    /// Measured while a batch is watched.
    pub gates: Vec<GateUse>,
    /// Whether every healthy task of both places is equal behind the balancer, instead of shares set by weight.
    pub pooled: bool,
}

impl Roll {
    /// By these bounds; no time to watch, 5 min to become healthy, 30 s to drain, no gates, shares by weight.
    pub fn new(surge: impl Into<Amount>, unavailable: impl Into<Amount>) -> Self {
        Self {
            surge: surge.into(),
            unavailable: unavailable.into(),
            min_ready: Duration::ZERO,
            within: Duration::from_secs(300),
            drain: Duration::from_secs(30),
            gates: Vec::new(),
            pooled: false,
        }
    }

    /// Surge and unavailable as counts. Never both zero: as in Kubernetes, one may be unavailable then.
    pub(crate) fn bounds(&self, desired: u32) -> (u32, u32) {
        let (surge, unavailable) =
            (self.surge.up(desired), self.unavailable.down(desired).min(desired));
        if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
    }
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// Starts the candidate's tasks.
    Launch {
        /// So many of the service's desired count, rounded up.
        share: Weight,
    },
    /// Waits until the candidate's tasks are ready and the balancer finds them healthy.
    AwaitHealthy {
        /// For so long at most.
        #[serde(rename = "within_ms", with = "crate::time::millis")]
        within: Duration,
    },
    /// Lets testers reach the candidate.
    OpenTest,
    /// Waits until gates pass.
    Validate {
        /// All of them must.
        gates: Vec<GateUse>,
    },
    /// Closes the test route.
    CloseTest,
    /// Sends a share of the live requests to the candidate, the rest to stable.
    Shift {
        /// The candidate's share.
        weight: Weight,
    },
    /// Waits while gates are measured in the background and the candidate's tasks are watched.
    Soak {
        /// So long.
        #[serde(rename = "time_ms", with = "crate::time::millis")]
        time: Duration,
        /// A failure of one of them ends the wait at once.
        gates: Vec<GateUse>,
    },
    /// Replaces stable's tasks by the candidate's in batches, each computed from what is observed then. Requests follow
    /// the tasks.
    Roll(Roll),
    /// Waits for a person, or for the approver of this name, to approve; without an answer in time it is undone.
    Approve {
        /// Whom to ask; without one, whoever holds the rollout's control.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        approver: Option<ApproverName>,
        /// How long.
        #[serde(rename = "within_ms", with = "crate::time::millis")]
        within: Duration,
        /// Measured meanwhile; a failure of one of them ends the wait.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gates: Vec<GateUse>,
    },
    /// Makes the candidate stable and the old stable held: the point of no return for an undo, though not for a rollback.
    Promote,
    /// Keeps the held place for a fast rollback; the rollout ends, the obligation to retire it stays in the store.
    Hold {
        /// So long.
        #[serde(rename = "time_ms", with = "crate::time::millis")]
        time: Duration,
    },
    /// Drains the held place and removes it.
    Retire {
        /// Whose place; only `Held` can be retired by a plan.
        role: Role,
        /// How long requests in flight may take to end.
        #[serde(rename = "drain_ms", with = "crate::time::millis")]
        drain: Duration,
    },
}

impl Step {
    /// The step's name in plans, updates and reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Launch { .. } => "launch",
            Self::AwaitHealthy { .. } => "await healthy",
            Self::OpenTest => "open test route",
            Self::Validate { .. } => "validate",
            Self::CloseTest => "close test route",
            Self::Shift { .. } => "shift",
            Self::Soak { .. } => "soak",
            Self::Roll(_) => "roll",
            Self::Approve { .. } => "approve",
            Self::Promote => "promote",
            Self::Hold { .. } => "hold",
            Self::Retire { .. } => "retire",
        }
    }

    /// The gates that it uses.
    pub fn gates(&self) -> &[GateUse] {
        match self {
            Self::Validate { gates }
            | Self::Soak { gates, .. }
            | Self::Approve { gates, .. }
            | Self::Roll(Roll { gates, .. }) => gates,
            _ => &[],
        }
    }
}

impl Plan {
    /// Whether there is nothing to do: what was asked for already runs.
    pub fn is_noop(&self) -> bool {
        self.steps.is_empty()
    }

    /// Runs a hook at a point, for so long at most. Several of one point run in the order in which they were added.
    pub fn with_hook(mut self, point: Point, hook: impl Into<HookName>, within: Duration) -> Self {
        self.hooks.push(HookUse { point, hook: hook.into(), within });
        self
    }

    /// Runs a job at a point, after its hooks; several of one point run in the order in which they were added. One at a point
    /// that comes more than once runs at each.
    ///
    /// A job that fails, or is not over in time, undoes the rollout; while it is undone, and after the promotion, that is only
    /// noted. An abort waits for the end of a job that runs: its time limit bounds it, nothing else cuts it.
    /// One at `ON_UNDO` delays the way back for as long as it runs.
    ///
    /// ```
    /// # fn example(plan: deploykit_core::Plan) -> deploykit_core::Plan {
    /// use deploykit_core::{Job, Point};
    ///
    /// plan.with_job(Point::PreScaleUp, Job::new("migrate").with_command(["bin/migrate"]))
    ///     .with_job(Point::PreProductionTrafficShift, Job::new("smoke").with_command(["bin/smoke"]))
    /// # }
    /// ```
    pub fn with_job(mut self, point: Point, job: Job) -> Self {
        self.jobs.push(JobUse { point, job });
        self
    }

    /// Sets what is done with the rollout when its deployer dies.
    pub fn with_on_orphan(mut self, on_orphan: OnOrphan) -> Self {
        self.on_orphan = on_orphan;
        self
    }

    /// The number of tasks that a share of `desired` is: rounded up, at least 1.
    pub(crate) fn tasks(share: Weight, desired: u32) -> u32 {
        let exact = u64::from(desired) * u64::from(share.get());
        u32::try_from(exact.div_ceil(u64::from(Weight::ALL.get()))).unwrap_or(u32::MAX).max(1)
    }

    /// The plan as JSON, to be kept and read back by [`from_json`](Self::from_json). With it stands its
    /// [estimate](Self::estimate), which is for whoever reviews it and is not read back.
    ///
    /// # Errors
    /// None that is known; whatever the JSON writer fails with.
    pub fn to_json(&self) -> Result<String> {
        #[derive(Serialize)]
        struct Shown<'a> {
            #[serde(flatten)]
            plan: &'a Plan,
            estimate: Estimate,
        }
        serde_json::to_string_pretty(&Shown { plan: self, estimate: self.estimate() })
            .map_err(|e| Error::new(ErrorKind::Other, "the plan cannot be written").with_source(e))
    }

    /// Reads a plan that was kept as JSON.
    ///
    /// # Errors
    /// `Newer` for one written by a later version of this library, `Corrupt` for what is not a plan.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(expecting = "a plan as JSON")]
        struct Head {
            format: u32,
        }
        let corrupt = |e: serde_json::Error| {
            Error::new(ErrorKind::Corrupt, "this is not a plan").with_source(e)
        };
        let head: Head = serde_json::from_slice(json).map_err(corrupt)?;
        if head.format > FORMAT {
            return Err(newer("plan", head.format));
        }
        serde_json::from_slice(json).map_err(corrupt)
    }
}

/// The error for a document of a later version.
pub(crate) fn newer(what: &str, version: u32) -> Error {
    Error::new(
        ErrorKind::Newer,
        format!("the {what} has version {version}, and this library knows versions up to {FORMAT}"),
    )
    .with_hint("use the version of deploykit that wrote it, or a later one")
}
