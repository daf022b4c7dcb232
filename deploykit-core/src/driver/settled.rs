//! Providers whose reads may be old.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::error::Result;
use crate::name::{Place, RevisionId, ServiceName, TaskId};
use crate::provider::{
    BalancerCapability, BalancerState, Endpoint, JobRun, JobState, Launch, LoadBalancer,
    Orchestrator, OrchestratorCapability, ServiceState,
};
use crate::release::Release;
use crate::routing::Routing;

/// A provider that is read when nothing that it shows can be older than what was last changed through it: whoever has just
/// launched tasks, say, would otherwise take their absence for somebody else's deed, and launch more.
#[derive(Debug)]
pub(crate) struct Settled<P: ?Sized> {
    provider: Arc<P>,
    /// A predecessor may have changed something right before.
    began: Instant,
    changed: Mutex<BTreeMap<ServiceName, Instant>>,
}

/// A change that is under way; one that is given up may have been made as well.
struct Changing<'a, P: ?Sized>(&'a Settled<P>, &'a ServiceName);

impl<P: ?Sized> Drop for Changing<'_, P> {
    fn drop(&mut self) {
        self.0.lock().insert(self.1.clone(), Instant::now());
    }
}

impl<P: ?Sized> Settled<P> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Instant>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: ?Sized + Send + Sync> Settled<P> {
    pub(crate) fn new(provider: Arc<P>) -> Arc<Self> {
        Arc::new(Self { provider, began: Instant::now(), changed: Mutex::default() })
    }

    /// Waits until no read is older than the last change of a service.
    async fn settle(&self, service: &ServiceName, stale: Duration) {
        loop {
            let changed = self.lock().get(service).copied().unwrap_or(self.began);
            let left = stale.saturating_sub(changed.elapsed());
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Orchestrator for Settled<dyn Orchestrator> {
    fn capability(&self) -> OrchestratorCapability {
        self.provider.capability()
    }
    async fn observe(&self, service: &ServiceName) -> Result<ServiceState> {
        self.settle(service, self.capability().stale).await;
        self.provider.observe(service).await
    }
    async fn register(&self, service: &ServiceName, release: &Release) -> Result<RevisionId> {
        self.provider.register(service, release).await
    }
    async fn describe(&self, service: &ServiceName, revision: &RevisionId) -> Result<Release> {
        self.provider.describe(service, revision).await
    }
    async fn launch(&self, launch: &Launch) -> Result<()> {
        let _changing = Changing(self, &launch.service);
        self.provider.launch(launch).await
    }
    async fn stop(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()> {
        let _changing = Changing(self, service);
        self.provider.stop(service, place, tasks).await
    }
    async fn retire(&self, service: &ServiceName, place: Place) -> Result<()> {
        let _changing = Changing(self, service);
        self.provider.retire(service, place).await
    }
    async fn start_job(&self, job: &JobRun, revision: &RevisionId) -> Result<()> {
        self.provider.start_job(job, revision).await
    }
    async fn await_job(&self, job: &JobRun, at_most: Duration) -> Result<JobState> {
        self.provider.await_job(job, at_most).await
    }
    async fn remove_jobs(&self, service: &ServiceName) -> Result<()> {
        self.provider.remove_jobs(service).await
    }
    async fn changed(&self, service: &ServiceName, at_most: Duration) {
        self.provider.changed(service, at_most).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LoadBalancer for Settled<dyn LoadBalancer> {
    fn capability(&self) -> BalancerCapability {
        self.provider.capability()
    }
    async fn capability_for(&self, service: &ServiceName) -> Result<BalancerCapability> {
        self.provider.capability_for(service).await
    }
    async fn observe(&self, service: &ServiceName) -> Result<BalancerState> {
        self.settle(service, self.capability().stale).await;
        self.provider.observe(service).await
    }
    async fn set_routing(&self, service: &ServiceName, routing: &Routing) -> Result<()> {
        let _changing = Changing(self, service);
        self.provider.set_routing(service, routing).await
    }
    async fn set_test_route(&self, service: &ServiceName, place: Option<Place>) -> Result<()> {
        let _changing = Changing(self, service);
        self.provider.set_test_route(service, place).await
    }
    async fn add_targets(
        &self,
        service: &ServiceName,
        place: Place,
        targets: &[Endpoint],
    ) -> Result<()> {
        let _changing = Changing(self, service);
        self.provider.add_targets(service, place, targets).await
    }
    async fn remove_targets(
        &self,
        service: &ServiceName,
        place: Place,
        tasks: &[TaskId],
    ) -> Result<()> {
        let _changing = Changing(self, service);
        self.provider.remove_targets(service, place, tasks).await
    }
    async fn drain(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()> {
        let _changing = Changing(self, service);
        self.provider.drain(service, place, tasks).await
    }
    async fn changed(&self, service: &ServiceName, at_most: Duration) {
        self.provider.changed(service, at_most).await
    }
}
