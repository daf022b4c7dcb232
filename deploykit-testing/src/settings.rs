//! What the world's backends can do, and how fast they are.

use std::collections::BTreeSet;
use std::time::Duration;

use deploykit_core::{BalancerCapability, OrchestratorCapability, ServiceName};

use crate::throttle::{Provider, Throttle};

/// What the world's backends can do, and how fast they are; changed with [`World::tune`](crate::World::tune).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// What the orchestrator can do. Everything; set it before anybody asks.
    pub orchestrator: OrchestratorCapability,
    /// What the balancer can do. Everything; set it before anybody asks.
    pub balancer: BalancerCapability,
    /// Services that have no test route though the balancer can have one, as a TCP service without a port for testers. None.
    pub without_test_route: BTreeSet<ServiceName>,
    /// How long a target that is registered and ready is checked before it gets requests. 50 ms.
    pub registration_lag: Duration,
    /// How long a routing that was accepted takes until requests follow it and reads show it. None.
    pub routing_lag: Duration,
    /// How long a task's health checks fail before anybody sees it as unhealthy. 2 s.
    pub detection: Duration,
    /// How long each call to a provider takes before it does anything. None.
    pub call_time: Duration,
    /// How long ago what a read of the orchestrator or the balancer shows may have been so: each read is as old as chance has it, up to
    /// this, so that one may show more than the next. No more is promised by ECS, nor known of Elastic Load Balancing. A routing
    /// shows late by this or by its own lag, whichever takes longer. None.
    pub stale_reads: Duration,
    /// How often the registry may be called. Always.
    pub registry_throttle: Option<Throttle>,
    /// How often the orchestrator may be called. Always.
    pub orchestrator_throttle: Option<Throttle>,
    /// How often the balancer may be called. Always.
    pub balancer_throttle: Option<Throttle>,
    /// How many tasks of all services there is room for; jobs need none. As many as are wanted.
    ///
    /// A task that finds none is [`Waiting`](deploykit_core::TaskState::Waiting) and starts when there is, the oldest first. One
    /// that is being stopped needs its room until it is gone.
    pub room: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            orchestrator: OrchestratorCapability::new().with_jobs(true),
            balancer: BalancerCapability::all(),
            without_test_route: BTreeSet::new(),
            registration_lag: Duration::from_millis(50),
            routing_lag: Duration::ZERO,
            detection: Duration::from_secs(2),
            call_time: Duration::ZERO,
            stale_reads: Duration::ZERO,
            registry_throttle: None,
            orchestrator_throttle: None,
            balancer_throttle: None,
            room: None,
        }
    }
}

impl Settings {
    pub(crate) const fn throttle(&self, provider: Provider) -> Option<Throttle> {
        match provider {
            Provider::Registry => self.registry_throttle,
            Provider::Orchestrator => self.orchestrator_throttle,
            Provider::Balancer => self.balancer_throttle,
        }
    }

    pub(crate) fn has_test_route(&self, service: &ServiceName) -> bool {
        self.balancer.test_route && !self.without_test_route.contains(service)
    }
}
