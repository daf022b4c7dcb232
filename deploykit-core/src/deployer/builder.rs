use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Deployer;
use crate::driver::{Provided, Providers, Settled};
use crate::name::{ApproverName, GateName, HookName};
use crate::provider::{Approver, HealthGate, Hook, LoadBalancer, Orchestrator, Registry};
use crate::store::{Store, Timed};
use crate::time::{Clock, SystemClock};

/// A provider that was not given yet; a builder with one of these cannot [`build`](DeployerBuilder::build).
#[derive(Clone, Copy, Debug)]
pub struct Missing;

/// How long a lease outlives a deployer that hangs. Every call to a provider is bounded by less than half of it, except
/// for fetching images, which changes nothing, and for stops, which are bounded by the service's own grace period.
const LEASE: Duration = Duration::from_secs(60);

/// Collects what a [`Deployer`] needs. What is missing is a compile error:
///
/// ```compile_fail
/// let deployer = deploykit_core::Deployer::builder().build();
/// ```
///
/// Without type parameters it is one that lacks nothing.
#[derive(Debug)]
#[must_use]
pub struct DeployerBuilder<
    R = Arc<dyn Registry>,
    O = Arc<dyn Orchestrator>,
    B = Option<Arc<dyn LoadBalancer>>,
    S = Arc<dyn Store>,
> {
    registry: R,
    orchestrator: O,
    balancer: B,
    store: S,
    rest: Rest,
}

/// What has a default.
#[derive(Debug)]
struct Rest {
    gates: BTreeMap<GateName, Arc<dyn HealthGate>>,
    hooks: BTreeMap<HookName, Arc<dyn Hook>>,
    approvers: BTreeMap<ApproverName, Arc<dyn Approver>>,
    clock: Arc<dyn Clock>,
    owner: Option<String>,
    lease: Duration,
}

impl Deployer {
    /// Begins a deployer: it needs a registry, an orchestrator, a balancer (or the word that there is none) and a store.
    pub fn builder() -> DeployerBuilder<Missing, Missing, Missing, Missing> {
        DeployerBuilder {
            registry: Missing,
            orchestrator: Missing,
            balancer: Missing,
            store: Missing,
            rest: Rest {
                gates: BTreeMap::new(),
                hooks: BTreeMap::new(),
                approvers: BTreeMap::new(),
                clock: Arc::new(SystemClock),
                owner: None,
                lease: LEASE,
            },
        }
    }
}

impl<R, O, B, S> DeployerBuilder<R, O, B, S> {
    /// Knows what images mean.
    pub fn registry(self, registry: impl Registry) -> DeployerBuilder<Arc<dyn Registry>, O, B, S> {
        let Self { orchestrator, balancer, store, rest, .. } = self;
        let registry = Arc::new(registry);
        DeployerBuilder { registry, orchestrator, balancer, store, rest }
    }

    /// Runs the tasks.
    pub fn orchestrator(
        self,
        orchestrator: impl Orchestrator,
    ) -> DeployerBuilder<R, Arc<dyn Orchestrator>, B, S> {
        let Self { registry, balancer, store, rest, .. } = self;
        let orchestrator = Arc::new(orchestrator);
        DeployerBuilder { registry, orchestrator, balancer, store, rest }
    }

    /// Sends requests to them.
    pub fn balancer(
        self,
        balancer: impl LoadBalancer,
    ) -> DeployerBuilder<R, O, Option<Arc<dyn LoadBalancer>>, S> {
        let Self { registry, orchestrator, store, rest, .. } = self;
        let balancer: Option<Arc<dyn LoadBalancer>> = Some(Arc::new(balancer));
        DeployerBuilder { registry, orchestrator, balancer, store, rest }
    }

    /// Says that the services are workers: nothing sends requests to them.
    pub fn without_balancer(self) -> DeployerBuilder<R, O, Option<Arc<dyn LoadBalancer>>, S> {
        let Self { registry, orchestrator, store, rest, .. } = self;
        DeployerBuilder { registry, orchestrator, balancer: None, store, rest }
    }

    /// Keeps what is decided.
    pub fn store(self, store: impl Store) -> DeployerBuilder<R, O, B, Arc<dyn Store>> {
        let Self { registry, orchestrator, balancer, rest, .. } = self;
        let store = Arc::new(Timed(store));
        DeployerBuilder { registry, orchestrator, balancer, store, rest }
    }

    /// Gives a gate the name under which plans use it.
    pub fn gate(mut self, name: impl Into<GateName>, gate: impl HealthGate) -> Self {
        self.rest.gates.insert(name.into(), Arc::new(gate));
        self
    }

    /// Gives a hook the name under which plans run it.
    pub fn hook(mut self, name: impl Into<HookName>, hook: impl Hook) -> Self {
        self.rest.hooks.insert(name.into(), Arc::new(hook));
        self
    }

    /// Gives an approver the name under which plans ask it.
    pub fn approver(mut self, name: impl Into<ApproverName>, approver: impl Approver) -> Self {
        self.rest.approvers.insert(name.into(), Arc::new(approver));
        self
    }

    /// Tells the time by another clock; the testing world's, say.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.rest.clock = Arc::new(clock);
        self
    }

    /// Who deploys, for those who find the lease held; otherwise the variable USER, or `deploykit` where that is not set.
    pub fn owner(mut self, name: impl Into<String>) -> Self {
        self.rest.owner = Some(name.into());
        self
    }

    /// How long others wait for a deployer that died without releasing its lease; 60 s otherwise, and 30 s at least: a call that
    /// it had under way may take 15 s, and it learns of the loss by its next renewal. Stores that see the death of a process
    /// do not wait at all.
    pub fn lease_time(mut self, ttl: Duration) -> Self {
        self.rest.lease = ttl.max(SHORTEST_LEASE);
        self
    }
}

/// Twice a call.
const SHORTEST_LEASE: Duration = Duration::from_secs(30);

impl DeployerBuilder {
    /// The deployer.
    #[must_use]
    pub fn build(self) -> Deployer {
        let Self { registry, orchestrator, balancer, store, rest } = self;
        let Rest { gates, hooks, approvers, clock, owner, lease } = rest;
        let name = owner
            .or_else(|| std::env::var("USER").ok())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "deploykit".to_owned());
        let providers = Arc::new(Providers {
            registry: Provided::new("registry", registry),
            orchestrator: Provided::new("orchestrator", Settled::new(orchestrator)),
            balancer: balancer.map(|balancer| {
                let settled: Arc<dyn LoadBalancer> = Settled::new(balancer);
                Provided::new("balancer", settled)
            }),
            gates,
            hooks,
            approvers,
            clock,
        });
        Deployer { providers, store, name, lease }
    }
}
