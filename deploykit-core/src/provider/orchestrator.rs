use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::job::{JobRun, JobState};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{Place, RevisionId, RolloutId, ServiceName, TaskId};
use crate::release::Release;

/// Runs tasks in places.
#[async_trait]
pub trait Orchestrator: fmt::Debug + Send + Sync + 'static {
    /// What this orchestrator can do; constant.
    fn capability(&self) -> OrchestratorCapability;

    /// What there is of a service now, read from the provider, not remembered.
    ///
    /// **Contract.** A service that does not exist has no places. Tasks that died are listed as long as the provider
    /// knows them. A place whose tasks are all gone is not listed.
    async fn observe(&self, service: &ServiceName) -> Result<ServiceState>;

    /// Makes a release known, fetching what it needs, and names it.
    ///
    /// **Contract.** Known to this handle from then on, and to every other one as long as a place runs it.
    ///
    /// **Idempotency.** An equal release gets the same revision, whoever registers it.
    ///
    /// **Errors.** `NotFound` for an image that cannot be had, `Unsupported` for settings that this backend lacks; both
    /// name the field.
    async fn register(&self, service: &ServiceName, release: &Release) -> Result<RevisionId>;

    /// The release that a revision stands for.
    ///
    /// **Errors.** `NotFound` for one that is not known any more.
    async fn describe(&self, service: &ServiceName, revision: &RevisionId) -> Result<Release>;

    /// Brings a place up to a number of tasks of one revision, and records that number as the place's desired count, which a
    /// lower one does not change.
    ///
    /// **Contract.** Tasks that run stay as they are; dead ones may be replaced. Never stops a living task, even where
    /// there are more than `count`. Other places stay as they are. Returns when the tasks were asked for, not when they are ready.
    ///
    /// **Idempotency.** By place and count: the second call changes nothing.
    ///
    /// **Errors.** `Busy` when the place holds another revision; `Unsupported` for one place more than there can be; `NotFound`
    /// for a revision that is not known; `Invalid` or `NotFound` for what can never start, no tasks at all for example.
    /// Nothing has changed then.
    async fn launch(&self, launch: &Launch) -> Result<()>;

    /// Stops these tasks of a place for good (SIGTERM, the grace period, SIGKILL) and lowers its desired count by as many.
    ///
    /// **Contract.** Returns when they are gone. Whoever calls has drained them.
    ///
    /// **Idempotency.** A task that is already gone, was never there, or is in another place is skipped.
    async fn stop(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()>;

    /// Removes a place: all its tasks (stopped as in [`stop`](Self::stop)) and whatever belonged to it.
    ///
    /// **Contract.** Returns when everything is gone. A place that is not there is success.
    async fn retire(&self, service: &ServiceName, place: Place) -> Result<()>;

    /// Starts a job, unless a job of this id was ever started: a run of a revision that was registered before, which ends by
    /// itself and is not restarted.
    ///
    /// **Contract.** Returns when it was started. Until [`remove_jobs`](Self::remove_jobs), this id is known, whatever became
    /// of the job. A job is no task: [`observe`](Self::observe) does not show it, and [`retire`](Self::retire) does not touch it.
    ///
    /// **Idempotency.** Once: whoever does not know whether an earlier call got so far calls again, also from another process.
    ///
    /// **Errors.** `Invalid` or `NotFound` for what can never start; `Uncertain` where it cannot be told whether this id was
    /// started; `Unsupported` where there are no [jobs](OrchestratorCapability::jobs).
    async fn start_job(&self, job: &JobRun, _revision: &RevisionId) -> Result<()> {
        Err(no_jobs(job))
    }

    /// Waits until a job has ended, or for `at_most`, and tells how it fares.
    ///
    /// **Contract.** Stops a job (as in [`stop`](Self::stop)) that has run for its limit, and waits for that end too. It has
    /// timed out if it ran for so long, whatever it exited with and whoever looked at it meanwhile.
    ///
    /// **Idempotency.** The end is told again until [`remove_jobs`](Self::remove_jobs).
    async fn await_job(&self, job: &JobRun, _at_most: Duration) -> Result<JobState> {
        Err(no_jobs(job))
    }

    /// Removes what the jobs of a service left, and stops those that run.
    ///
    /// **Idempotency.** Where nothing is left, that is success.
    async fn remove_jobs(&self, _service: &ServiceName) -> Result<()> {
        Ok(())
    }

    /// Returns when something about the service may have changed since the call began, and after `at_most` anyway.
    ///
    /// A backend with events returns on them, one without sleeps for a sensible interval. Never an error: the next
    /// [`observe`](Self::observe) tells.
    async fn changed(&self, service: &ServiceName, at_most: Duration);
}

fn no_jobs(job: &JobRun) -> Error {
    Error::new(ErrorKind::Unsupported, format!("job {}: the orchestrator runs no jobs", job.name))
}

/// What an orchestrator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OrchestratorCapability {
    /// How many places a service can have at once; at least 2.
    pub places: usize,
    /// Whether a task can have more than one container.
    pub sidecars: bool,
    /// Whether it runs jobs; the methods for them have to be implemented then.
    #[serde(default)]
    pub jobs: bool,
    /// How old what [`observe`](Orchestrator::observe) shows may be. A deployer waits for so long after each change before it looks;
    /// less than 15 s.
    #[serde(default, rename = "stale_ms", with = "crate::time::millis")]
    pub stale: Duration,
}

impl OrchestratorCapability {
    /// All places, one container for each task, no jobs.
    pub const fn new() -> Self {
        Self { places: Place::COUNT, sidecars: false, jobs: false, stale: Duration::ZERO }
    }

    /// Sets how many places a service can have at once.
    #[must_use]
    pub const fn with_places(mut self, places: usize) -> Self {
        self.places = places;
        self
    }

    /// Sets whether a task can have more than one container.
    #[must_use]
    pub const fn with_sidecars(mut self, sidecars: bool) -> Self {
        self.sidecars = sidecars;
        self
    }

    /// Sets how old reads may be.
    #[must_use]
    pub const fn with_stale(mut self, stale: Duration) -> Self {
        self.stale = stale;
        self
    }

    /// Sets whether it runs jobs.
    #[must_use]
    pub const fn with_jobs(mut self, jobs: bool) -> Self {
        self.jobs = jobs;
        self
    }
}

impl Default for OrchestratorCapability {
    fn default() -> Self {
        Self::new()
    }
}

/// A number of tasks wanted in a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Of this service.
    pub service: ServiceName,
    /// In this place.
    pub place: Place,
    /// Of this revision, which was registered before.
    pub revision: RevisionId,
    /// So many tasks in all, at least 1.
    pub count: u32,
    /// On behalf of this rollout; a label for people, not a condition.
    pub rollout: RolloutId,
}

/// What an orchestrator sees of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    /// The places that hold tasks, in order.
    pub places: Vec<PlaceState>,
}

impl ServiceState {
    /// One place.
    pub fn place(&self, place: Place) -> Option<&PlaceState> {
        self.places.iter().find(|state| state.place == place)
    }
}

/// What an orchestrator sees of a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceState {
    /// Which place.
    pub place: Place,
    /// What it runs.
    pub revision: RevisionId,
    /// How many tasks it is to have.
    pub desired: u32,
    /// Those that it has, in an order that does not change.
    pub tasks: Vec<Task>,
}

impl PlaceState {
    /// How many tasks are ready.
    pub fn ready(&self) -> u32 {
        let ready = self.tasks.iter().filter(|task| task.state == TaskState::Ready).count();
        u32::try_from(ready).unwrap_or(u32::MAX)
    }

    /// Why the first task that is not well is not, where a task failed, is unhealthy or has no room.
    pub fn trouble(&self) -> Option<String> {
        self.tasks.iter().find_map(|task| match &task.state {
            TaskState::Failed { why }
            | TaskState::Unhealthy { why }
            | TaskState::Waiting { why } => Some(format!("task {}: {why}", task.id)),
            TaskState::Starting | TaskState::Ready | TaskState::Stopping => None,
        })
    }
}

/// One task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its name; unique among the tasks of the service at any time.
    pub id: TaskId,
    /// How it is.
    pub state: TaskState,
    /// `host:port` at which the balancer reaches it, once known.
    pub address: Option<String>,
}

/// How a task is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Was asked for and does not run yet, because the provider has no room for it.
    Waiting {
        /// For people.
        why: String,
    },
    /// Not ready yet, and not heard from.
    Starting,
    /// Runs and passed its readiness check.
    Ready,
    /// Runs, and does not pass its readiness check, or does not any more.
    Unhealthy {
        /// For people.
        why: String,
    },
    /// Is being stopped.
    Stopping,
    /// Ended though nobody asked; the provider may be about to restart it.
    Failed {
        /// For people: exit code, out of memory, last log lines.
        why: String,
    },
}
