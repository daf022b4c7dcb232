//! Providers and a store of which any call can be struck: the n-th of all calls, whichever it is.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use deploykit_core::{
    BalancerCapability, BalancerState, Endpoint, Error, ErrorKind, ImageRef, JobRun, JobState,
    Journal, Launch, Lease, LoadBalancer, Orchestrator, OrchestratorCapability, Owner, PinnedImage,
    Place, Registry, Release, Result, RevisionId, RolloutId, Routing, ServiceName, ServiceState,
    Store, TaskId,
};
use tokio::sync::watch;

/// What becomes of a call that is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// The deployer dies when it was made.
    Die,
    /// It fails with this kind and changes nothing.
    Fail(ErrorKind),
    /// It is made, and the answer is lost.
    Lost,
    /// It is made, and never answered.
    Hang,
}

/// Which calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Provider,
    Store,
    All,
}

/// Counts the calls of one deployer, strikes some of them, and ends it.
#[derive(Clone, Debug)]
pub(crate) struct Tap {
    plan: Arc<Mutex<Option<Strike>>>,
    dead: Arc<watch::Sender<bool>>,
}

#[derive(Debug)]
struct Strike {
    /// How many calls are let through, and how many are struck then.
    pass: u64,
    times: u64,
    blow: Blow,
    part: Part,
    struck: bool,
}

impl Tap {
    pub(crate) fn new() -> Self {
        Self { plan: Arc::default(), dead: Arc::new(watch::Sender::new(false)) }
    }

    /// Strikes `times` calls from the n-th on, 1 being the next.
    pub(crate) fn strike(&self, nth: u64, times: u64, blow: Blow, part: Part) {
        let strike = Strike { pass: nth - 1, times, blow, part, struck: false };
        *self.plan.lock().unwrap() = Some(strike);
    }

    /// Whether there were so many calls that one was struck.
    pub(crate) fn has_struck(&self) -> bool {
        self.plan.lock().unwrap().as_ref().is_some_and(|strike| strike.struck)
    }

    /// Strikes nothing any more.
    pub(crate) fn heal(&self) {
        *self.plan.lock().unwrap() = None;
    }

    fn next(&self, part: Part) -> Option<Blow> {
        let mut plan = self.plan.lock().unwrap();
        let strike = plan.as_mut().filter(|s| s.part == Part::All || s.part == part)?;
        if strike.pass > 0 {
            strike.pass -= 1;
            return None;
        }
        strike.times = strike.times.checked_sub(1)?;
        strike.struck = true;
        Some(strike.blow)
    }

    /// Ends the deployer: from here on it does nothing any more, not even give back its lease.
    pub(crate) fn kill(&self) {
        self.dead.send_replace(true);
    }

    async fn killed(&self) {
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    async fn living<T>(&self, call: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            () = self.killed() => std::future::pending().await,
            answer = call => answer,
        }
    }

    async fn call<T>(
        &self,
        part: Part,
        name: &str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match self.next(part) {
            None => self.living(call).await,
            Some(Blow::Die) => {
                let _ = self.living(call).await;
                self.kill();
                std::future::pending().await
            }
            Some(Blow::Fail(kind)) => Err(Error::new(kind, format!("{name} was struck"))),
            Some(Blow::Lost) => {
                let _ = self.living(call).await;
                Err(Error::new(ErrorKind::Timeout, format!("the answer to {name} was lost")))
            }
            Some(Blow::Hang) => {
                let _ = self.living(call).await;
                std::future::pending().await
            }
        }
    }
}

pub(crate) struct Tapped<T>(pub(crate) T, pub(crate) Tap);

impl<T> fmt::Debug for Tapped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tapped")
    }
}

#[async_trait]
impl<T: Registry> Registry for Tapped<T> {
    async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage> {
        self.0.resolve(image).await
    }
}

#[async_trait]
impl<T: Orchestrator> Orchestrator for Tapped<T> {
    fn capability(&self) -> OrchestratorCapability {
        self.0.capability()
    }
    async fn observe(&self, service: &ServiceName) -> Result<ServiceState> {
        self.1.call(Part::Provider, "observe tasks", self.0.observe(service)).await
    }
    async fn register(&self, service: &ServiceName, release: &Release) -> Result<RevisionId> {
        self.1.call(Part::Provider, "register", self.0.register(service, release)).await
    }
    async fn describe(&self, service: &ServiceName, revision: &RevisionId) -> Result<Release> {
        self.1.call(Part::Provider, "describe", self.0.describe(service, revision)).await
    }
    async fn launch(&self, launch: &Launch) -> Result<()> {
        self.1.call(Part::Provider, "launch", self.0.launch(launch)).await
    }
    async fn stop(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()> {
        self.1.call(Part::Provider, "stop", self.0.stop(service, place, tasks)).await
    }
    async fn retire(&self, service: &ServiceName, place: Place) -> Result<()> {
        self.1.call(Part::Provider, "retire", self.0.retire(service, place)).await
    }
    async fn start_job(&self, job: &JobRun, revision: &RevisionId) -> Result<()> {
        self.1.call(Part::Provider, "start job", self.0.start_job(job, revision)).await
    }
    async fn await_job(&self, job: &JobRun, at_most: Duration) -> Result<JobState> {
        self.1.call(Part::Provider, "await job", self.0.await_job(job, at_most)).await
    }
    async fn remove_jobs(&self, service: &ServiceName) -> Result<()> {
        self.1.call(Part::Provider, "remove jobs", self.0.remove_jobs(service)).await
    }
    async fn changed(&self, service: &ServiceName, at_most: Duration) {
        self.1.living(self.0.changed(service, at_most)).await;
    }
}

#[async_trait]
impl<T: LoadBalancer> LoadBalancer for Tapped<T> {
    fn capability(&self) -> BalancerCapability {
        self.0.capability()
    }
    async fn observe(&self, service: &ServiceName) -> Result<BalancerState> {
        self.1.call(Part::Provider, "observe routing", self.0.observe(service)).await
    }
    async fn set_routing(&self, service: &ServiceName, routing: &Routing) -> Result<()> {
        self.1.call(Part::Provider, "set routing", self.0.set_routing(service, routing)).await
    }
    async fn set_test_route(&self, service: &ServiceName, place: Option<Place>) -> Result<()> {
        self.1.call(Part::Provider, "set test route", self.0.set_test_route(service, place)).await
    }
    async fn set_targets(
        &self,
        service: &ServiceName,
        place: Place,
        targets: &[Endpoint],
    ) -> Result<()> {
        self.1
            .call(Part::Provider, "set targets", self.0.set_targets(service, place, targets))
            .await
    }
    async fn drain(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()> {
        self.1.call(Part::Provider, "drain", self.0.drain(service, place, tasks)).await
    }
}

#[async_trait]
impl<T: Store> Store for Tapped<T> {
    async fn acquire(&self, service: &ServiceName, owner: &Owner, ttl: Duration) -> Result<Lease> {
        self.1.call(Part::Store, "acquire", self.0.acquire(service, owner, ttl)).await
    }
    async fn renew(&self, lease: &Lease) -> Result<()> {
        self.1.call(Part::Store, "renew", self.0.renew(lease)).await
    }
    async fn release(&self, lease: &Lease) -> Result<()> {
        self.1.call(Part::Store, "release", self.0.release(lease)).await
    }
    async fn append(
        &self,
        lease: &Lease,
        journal: &Journal,
        expected: u64,
        lines: &[String],
    ) -> Result<u64> {
        self.1.call(Part::Store, "append", self.0.append(lease, journal, expected, lines)).await
    }
    async fn read(&self, journal: &Journal, from: u64) -> Result<Vec<String>> {
        self.1.call(Part::Store, "read", self.0.read(journal, from)).await
    }
    async fn put(&self, lease: &Lease, name: &str, bytes: &[u8]) -> Result<()> {
        self.1.call(Part::Store, "put", self.0.put(lease, name, bytes)).await
    }
    async fn get(&self, service: &ServiceName, name: &str) -> Result<Option<Vec<u8>>> {
        self.1.call(Part::Store, "get", self.0.get(service, name)).await
    }
    async fn remove(&self, lease: &Lease, rollout: &RolloutId) -> Result<()> {
        self.1.call(Part::Store, "remove", self.0.remove(lease, rollout)).await
    }
    async fn services(&self) -> Result<Vec<ServiceName>> {
        self.1.call(Part::Store, "services", self.0.services()).await
    }
}
