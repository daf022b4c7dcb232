use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::name::{Place, ServiceName, TaskId};
use crate::routing::Routing;

/// Sends requests to the tasks of places. A worker has none.
///
/// Where a balancer has to be told of a service first, on which port it listens for example, changes of any other are
/// `NotFound`.
#[async_trait]
pub trait LoadBalancer: fmt::Debug + Send + Sync + 'static {
    /// What this balancer can do; constant.
    fn capability(&self) -> BalancerCapability;

    /// What it can do for one service: no more than it can at all, and all of that unless it says otherwise.
    ///
    /// **Contract.** Asked when a rollout is planned, and again before it begins: what is lacking is refused then, before
    /// anything has moved.
    ///
    /// **Errors.** `NotFound` for a service that must be made known to the balancer first.
    async fn capability_for(&self, service: &ServiceName) -> Result<BalancerCapability> {
        let _ = service;
        Ok(self.capability())
    }

    /// What there is of a service now, read from the balancer, not remembered.
    ///
    /// **Contract.** A service that the balancer does not know is `Closed` and has no targets.
    async fn observe(&self, service: &ServiceName) -> Result<BalancerState>;

    /// Sets where requests go, as one whole state.
    ///
    /// **Contract.** Returns when the change was accepted; the caller reads it back before anything depends on it. Live
    /// requests that are under way are not cut. A routing to a place without targets is accepted; the caller has
    /// looked at them. Targets and test route stay as they are.
    ///
    /// **Errors.** `Unsupported` for a routing that this balancer lacks, and for [`Routing::None`]. Nothing has changed then.
    async fn set_routing(&self, service: &ServiceName, routing: &Routing) -> Result<()>;

    /// Lets testers reach a place, or nobody.
    ///
    /// **Contract.** No live request ever goes over the test route. Requests that do carry the header
    /// `x-deploykit-test`, so that the service can tell them apart.
    ///
    /// **Errors.** `Unsupported` where there is no test route; closing none is success.
    async fn set_test_route(&self, service: &ServiceName, place: Option<Place>) -> Result<()>;

    /// Adds targets to a place. Each call names only what it changes: a provider may add and remove tasks of its own.
    ///
    /// **Contract.** New ones get requests once the balancer finds them healthy; known ones stay as they are, draining
    /// ones included. A task that is known under another address is new under this one. Everything else stays as it is.
    async fn add_targets(
        &self,
        service: &ServiceName,
        place: Place,
        targets: &[Endpoint],
    ) -> Result<()>;

    /// Removes the targets of tasks from a place.
    ///
    /// **Contract.** Whatever they were answering may be cut: the caller has drained them, or knows that they are dead. A task
    /// that is not known, or is in another place, is skipped; one that is added again later is new. Everything else stays as it
    /// is.
    async fn remove_targets(
        &self,
        service: &ServiceName,
        place: Place,
        tasks: &[TaskId],
    ) -> Result<()>;

    /// Sends no new requests to these tasks of a place; those under way go on.
    ///
    /// **Contract.** Returns at once; [`observe`](Self::observe) shows what is still in flight. A task that is not
    /// known, or is in another place, is skipped.
    async fn drain(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()>;

    /// Returns when something that [`observe`](Self::observe) shows of the service may have changed since the call began, and
    /// after `at_most` anyway.
    ///
    /// A backend with events returns on them; one without, by this default, after half a second. It is how late a candidate that
    /// is watched is found to have lost its requests. Never an error: the next look tells.
    async fn changed(&self, service: &ServiceName, at_most: Duration) {
        let _ = service;
        tokio::time::sleep(at_most.min(Duration::from_millis(500))).await;
    }
}

/// What a balancer can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BalancerCapability {
    /// [`Routing::Weighted`] with shares other than all and nothing.
    pub weighted: bool,
    /// [`Routing::Pooled`].
    pub pooled: bool,
    /// A test route.
    pub test_route: bool,
    /// How long after it was accepted a change may show in reads, and in what requests meet, at the latest.
    #[serde(rename = "lag_ms", with = "crate::time::millis")]
    pub lag: Duration,
    /// How old what [`observe`](LoadBalancer::observe) shows may be. A deployer waits for so long after each change before it looks;
    /// less than 15 s.
    #[serde(default, rename = "stale_ms", with = "crate::time::millis")]
    pub stale: Duration,
}

impl BalancerCapability {
    /// Everything, at once.
    pub const fn all() -> Self {
        Self {
            weighted: true,
            pooled: true,
            test_route: true,
            lag: Duration::ZERO,
            stale: Duration::ZERO,
        }
    }

    /// Sets whether shares can be set.
    #[must_use]
    pub const fn with_weighted(mut self, weighted: bool) -> Self {
        self.weighted = weighted;
        self
    }

    /// Sets whether there is a pooled routing.
    #[must_use]
    pub const fn with_pooled(mut self, pooled: bool) -> Self {
        self.pooled = pooled;
        self
    }

    /// Sets how late a change may show.
    #[must_use]
    pub const fn with_lag(mut self, lag: Duration) -> Self {
        self.lag = lag;
        self
    }

    /// Sets how old reads may be.
    #[must_use]
    pub const fn with_stale(mut self, stale: Duration) -> Self {
        self.stale = stale;
        self
    }

    /// Sets whether there is a test route.
    #[must_use]
    pub const fn with_test_route(mut self, test_route: bool) -> Self {
        self.test_route = test_route;
        self
    }
}

/// What a balancer sees of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalancerState {
    /// Where requests go.
    pub routing: Routing,
    /// The place that testers reach.
    pub test_route: Option<Place>,
    /// All targets of all places.
    pub targets: Vec<Target>,
    /// How the service is reached; none when the balancer does not know.
    pub entry: Option<Entry>,
    /// How testers reach the place of the test route; none while there is none.
    pub test_entry: Option<Entry>,
}

impl BalancerState {
    /// The targets of one place.
    pub fn targets_of(&self, place: Place) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(move |target| target.place == place)
    }

    /// How many targets of a place take requests.
    pub fn healthy(&self, place: Place) -> u32 {
        let healthy = self.targets_of(place).filter(|t| t.health == TargetHealth::Healthy).count();
        u32::try_from(healthy).unwrap_or(u32::MAX)
    }

    /// How many requests a place is answering.
    pub fn in_flight(&self, place: Place) -> u64 {
        self.targets_of(place).map(|target| target.in_flight).sum()
    }
}

/// One target of a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Of this place.
    pub place: Place,
    /// This task.
    pub task: TaskId,
    /// At this `host:port`.
    pub address: String,
    /// Whether it takes requests.
    pub health: TargetHealth,
    /// Requests and connections that it is answering now; idle connections do not count.
    pub in_flight: u64,
}

/// Whether a target takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetHealth {
    /// Not checked yet.
    Starting,
    /// Takes requests.
    Healthy,
    /// Its checks fail.
    Unhealthy,
    /// Finishes what it has.
    Draining,
}

/// A task and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The task.
    pub task: TaskId,
    /// Its `host:port`.
    pub address: String,
}

impl From<&Target> for Endpoint {
    fn from(target: &Target) -> Self {
        Self { task: target.task.clone(), address: target.address.clone() }
    }
}

/// How a service is reached from where the deployer runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `http://host:port` or `https://host:port`, without a path; `tcp://host:port` for a service of whole connections.
    pub url: String,
    /// Headers that each request must carry to get there.
    pub headers: Vec<(String, String)>,
}
