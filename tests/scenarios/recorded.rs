//! Providers and a store that write down what a deployer changes, and that a deployer can die at.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use deploykit::{
    BalancerCapability, BalancerState, Endpoint, JobRun, JobState, Journal, Launch, Lease,
    LoadBalancer, Orchestrator, OrchestratorCapability, Owner, Place, Release, Result, RevisionId,
    RolloutId, Routing, ServiceName, ServiceState, Store, TaskId,
};
use tokio::sync::watch;

/// A call that may change something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Register,
    Launch(Place, u32),
    Stop(Place),
    Retire(Place),
    StartJob,
    RemoveJobs,
    Routing(Routing),
    TestRoute(Option<Place>),
    Targets(Place, usize),
    Drain(Place),
}

/// What deployers have changed so far, or tried to, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(ServiceName, Change)>>>);

impl Log {
    fn add(&self, service: &ServiceName, change: Change) {
        self.0.lock().unwrap().push((service.clone(), change));
    }

    /// Forgets what was, so that only what comes is counted.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        self.0.lock().unwrap().iter().map(|(_, change)| change.clone()).collect()
    }

    pub(crate) fn count(&self, is_meant: impl Fn(&Change) -> bool) -> usize {
        self.changes().iter().filter(|change| is_meant(change)).count()
    }
}

/// The life of a deployer. Once it has ended, none of its calls is made, none is answered, and those in flight are dropped.
#[derive(Clone)]
pub(crate) struct Life {
    end: Arc<watch::Sender<bool>>,
    /// How many writes are left; the last one ends it.
    left: Arc<AtomicUsize>,
    /// Whether the last write is still made.
    writes_last: bool,
}

impl Life {
    pub(crate) fn immortal() -> Self {
        Self {
            end: Arc::new(watch::Sender::new(false)),
            left: Arc::new(usize::MAX.into()),
            writes_last: false,
        }
    }

    /// One that ends at its last write, which is still made, or is not any more.
    #[allow(dead_code, reason = "only a world in memory is quick enough to try all of them")]
    pub(crate) fn of(writes: usize, writes_last: bool) -> Self {
        Self { left: Arc::new(writes.into()), writes_last, ..Self::immortal() }
    }

    pub(crate) fn end(&self) {
        self.end.send_replace(true);
    }

    /// Returns when it has ended.
    pub(crate) async fn ended(&self) {
        let _ = self.end.subscribe().wait_for(|ended| *ended).await;
    }

    async fn read<T>(&self, call: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            () = self.ended() => std::future::pending().await,
            answer = call => answer,
        }
    }

    async fn write<T>(&self, call: impl Future<Output = T>) -> T {
        let is_last = self.left.fetch_sub(1, Ordering::SeqCst) == 1;
        if is_last && !self.writes_last {
            self.end();
        }
        let answer = self.read(call).await;
        if is_last {
            self.end();
            return std::future::pending().await;
        }
        answer
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").field("ended", &*self.end.borrow()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct Recorded<T> {
    inner: T,
    log: Log,
    life: Life,
}

impl<T> Recorded<T> {
    pub(crate) fn new(inner: T, log: &Log, life: &Life) -> Self {
        Self { inner, log: log.clone(), life: life.clone() }
    }

    async fn change<A>(
        &self,
        service: &ServiceName,
        change: Change,
        call: impl Future<Output = A>,
    ) -> A {
        let made = async {
            self.log.add(service, change);
            call.await
        };
        self.life.write(made).await
    }
}

#[async_trait]
impl Orchestrator for Recorded<Arc<dyn Orchestrator>> {
    fn capability(&self) -> OrchestratorCapability {
        self.inner.capability()
    }

    async fn observe(&self, service: &ServiceName) -> Result<ServiceState> {
        self.life.read(self.inner.observe(service)).await
    }

    async fn register(&self, service: &ServiceName, release: &Release) -> Result<RevisionId> {
        self.change(service, Change::Register, self.inner.register(service, release)).await
    }

    async fn describe(&self, service: &ServiceName, revision: &RevisionId) -> Result<Release> {
        self.life.read(self.inner.describe(service, revision)).await
    }

    async fn launch(&self, launch: &Launch) -> Result<()> {
        let change = Change::Launch(launch.place, launch.count);
        self.change(&launch.service, change, self.inner.launch(launch)).await
    }

    async fn stop(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()> {
        self.change(service, Change::Stop(place), self.inner.stop(service, place, tasks)).await
    }

    async fn retire(&self, service: &ServiceName, place: Place) -> Result<()> {
        self.change(service, Change::Retire(place), self.inner.retire(service, place)).await
    }

    async fn start_job(&self, job: &JobRun, revision: &RevisionId) -> Result<()> {
        self.change(&job.service, Change::StartJob, self.inner.start_job(job, revision)).await
    }

    async fn await_job(&self, job: &JobRun, at_most: Duration) -> Result<JobState> {
        self.life.read(self.inner.await_job(job, at_most)).await
    }

    async fn remove_jobs(&self, service: &ServiceName) -> Result<()> {
        self.change(service, Change::RemoveJobs, self.inner.remove_jobs(service)).await
    }

    async fn changed(&self, service: &ServiceName, at_most: Duration) {
        self.life.read(self.inner.changed(service, at_most)).await;
    }
}

#[async_trait]
impl LoadBalancer for Recorded<Arc<dyn LoadBalancer>> {
    fn capability(&self) -> BalancerCapability {
        self.inner.capability()
    }

    async fn observe(&self, service: &ServiceName) -> Result<BalancerState> {
        self.life.read(self.inner.observe(service)).await
    }

    async fn set_routing(&self, service: &ServiceName, routing: &Routing) -> Result<()> {
        let change = Change::Routing(routing.clone());
        self.change(service, change, self.inner.set_routing(service, routing)).await
    }

    async fn set_test_route(&self, service: &ServiceName, place: Option<Place>) -> Result<()> {
        let change = Change::TestRoute(place);
        self.change(service, change, self.inner.set_test_route(service, place)).await
    }

    async fn set_targets(
        &self,
        service: &ServiceName,
        place: Place,
        targets: &[Endpoint],
    ) -> Result<()> {
        let change = Change::Targets(place, targets.len());
        self.change(service, change, self.inner.set_targets(service, place, targets)).await
    }

    async fn drain(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()> {
        self.change(service, Change::Drain(place), self.inner.drain(service, place, tasks)).await
    }
}

#[async_trait]
impl<S: Store> Store for Recorded<S> {
    async fn acquire(&self, service: &ServiceName, owner: &Owner, ttl: Duration) -> Result<Lease> {
        self.life.write(self.inner.acquire(service, owner, ttl)).await
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        self.life.read(self.inner.renew(lease)).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.life.write(self.inner.release(lease)).await
    }

    async fn append(
        &self,
        lease: &Lease,
        journal: &Journal,
        expected: u64,
        lines: &[String],
    ) -> Result<u64> {
        self.life.write(self.inner.append(lease, journal, expected, lines)).await
    }

    async fn read(&self, journal: &Journal, from: u64) -> Result<Vec<String>> {
        self.life.read(self.inner.read(journal, from)).await
    }

    async fn put(&self, lease: &Lease, name: &str, bytes: &[u8]) -> Result<()> {
        self.life.write(self.inner.put(lease, name, bytes)).await
    }

    async fn get(&self, service: &ServiceName, name: &str) -> Result<Option<Vec<u8>>> {
        self.life.read(self.inner.get(service, name)).await
    }

    async fn remove(&self, lease: &Lease, rollout: &RolloutId) -> Result<()> {
        self.life.write(self.inner.remove(lease, rollout)).await
    }

    async fn services(&self) -> Result<Vec<ServiceName>> {
        self.life.read(self.inner.services()).await
    }
}
