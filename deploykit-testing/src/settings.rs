//! What the world's backends can do, and how fast they are.

use std::collections::BTreeSet;
use std::time::Duration;

use deploykit_core::{BalancerCapability, OrchestratorCapability, ServiceName};

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
        }
    }
}

impl Settings {
    pub(crate) fn has_test_route(&self, service: &ServiceName) -> bool {
        self.balancer.test_route && !self.without_test_route.contains(service)
    }
}
