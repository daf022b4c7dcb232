//! Between a deployer and its providers, of the world or real ones: what it changes is written down, its calls are struck.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use deploykit_core::{
    BalancerCapability, BalancerState, Endpoint, Error, ErrorKind, JobName, JobRun, JobState,
    Journal, Launch, Lease, LoadBalancer, Orchestrator, OrchestratorCapability, Owner, Place,
    Release, Result, RevisionId, RolloutId, Routing, ServiceName, ServiceState, Store, TaskId,
};
use tokio::sync::watch;
use tokio::time::sleep;

/// A call by which a deployer changes something at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutation {
    /// A release is registered.
    Register,
    /// A place is to have so many tasks.
    Launch(Place, u32),
    /// Tasks of a place are stopped.
    Stop(Place),
    /// A place is removed.
    Retire(Place),
    /// The job of this name is started.
    StartJob(JobName),
    /// What jobs left is removed.
    RemoveJobs,
    /// Live requests go there.
    Routing(Routing),
    /// Testers get there.
    TestRoute(Option<Place>),
    /// The balancer is told so many targets of a place.
    AddTargets(Place, usize),
    /// The balancer is to forget so many targets of a place.
    RemoveTargets(Place, usize),
    /// Tasks of a place get no more requests.
    Drain(Place),
}

/// What becomes of a call that is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Blow {
    /// It fails with this kind and changes nothing.
    Fail(ErrorKind),
    /// It is made, and the answer is lost.
    Lost,
    /// It is made, and never answered.
    Hang,
    /// It is made so much later.
    Slow(Duration),
    /// The deployer dies when it was made.
    Die,
    /// The deployer dies instead of making it.
    DieBefore,
}

/// Which calls are counted until one is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Those to providers.
    Provider,
    /// Those to the store.
    Store,
    /// All of them.
    All,
    /// Those that change something, at providers and in the store.
    Writes,
}

/// Stands between one deployer and its providers and store, whichever they are: [`wrap`](Self::wrap) each of them. It writes
/// down what the deployer changes, strikes the n-th of its calls, and ends it as the death of its process would.
///
/// [`Fault`](crate::Fault) strikes calls of one operation in a world; this one counts all calls, those to a store included,
/// and works with any backend. Clones share everything.
///
/// ```
/// use deploykit_core::{Deployer, MemoryStore};
/// use deploykit_testing::{Blow, Part, Tap, World};
///
/// let (world, tap) = (World::new(1), Tap::new());
/// let deployer = Deployer::builder()
///     .registry(world.registry())
///     .orchestrator(tap.wrap(world.orchestrator()))
///     .balancer(tap.wrap(world.balancer()))
///     .store(tap.wrap(MemoryStore::new()))
///     .build();
/// tap.strike(5, 1, Blow::Lost, Part::Provider);
/// ```
#[derive(Clone, Debug)]
pub struct Tap {
    record: Arc<Mutex<Vec<(ServiceName, Mutation)>>>,
    strike: Arc<Mutex<Strike>>,
    dead: Arc<watch::Sender<bool>>,
}

/// What becomes of a call to [`Part::Provider`] or [`Part::Store`]: by its name, its part, and whether it may change something.
type Judge = Box<dyn FnMut(&str, Part, bool) -> Option<Blow> + Send>;

#[derive(Default)]
struct Strike {
    judge: Option<Judge>,
    struck: bool,
}

impl fmt::Debug for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Strike").field("struck", &self.struck).finish_non_exhaustive()
    }
}

impl Default for Tap {
    fn default() -> Self {
        Self::new()
    }
}

impl Tap {
    /// Nothing happens to the deployer yet.
    pub fn new() -> Self {
        Self {
            record: Arc::default(),
            strike: Arc::default(),
            dead: Arc::new(watch::Sender::new(false)),
        }
    }

    /// For another deployer: with a fate of its own, and what it changes is written to the same record.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { record: Arc::clone(&self.record), ..Self::new() }
    }

    /// Puts it in front of an orchestrator, a balancer or a store.
    pub fn wrap<T>(&self, inner: T) -> Tapped<T> {
        Tapped { inner, tap: self.clone() }
    }

    /// Strikes `times` calls of a part from the n-th on, 1 being the next. What was to be struck before is not any more.
    pub fn strike(&self, nth: u64, times: u64, blow: Blow, part: Part) {
        let (mut pass, mut times) = (nth.saturating_sub(1), times);
        self.strike_by(move |_, called, writes| {
            let counts = match part {
                Part::All => true,
                Part::Writes => writes,
                part => part == called,
            };
            if counts && pass > 0 {
                pass -= 1;
                return None;
            }
            times = times.checked_sub(u64::from(counts))?;
            counts.then_some(blow)
        });
    }

    /// Lets `judge` say of each call what becomes of it, by the call's name, its part ([`Part::Provider`] or
    /// [`Part::Store`]), and whether it may change something. It must not use this tap: it waits for itself then. What was to
    /// be struck before is not any more.
    pub fn strike_by(&self, judge: impl FnMut(&str, Part, bool) -> Option<Blow> + Send + 'static) {
        *lock(&self.strike) = Strike { judge: Some(Box::new(judge)), struck: false };
    }

    /// Whether there were so many calls that one was struck.
    pub fn has_struck(&self) -> bool {
        lock(&self.strike).struck
    }

    /// Strikes nothing any more.
    pub fn heal(&self) {
        *lock(&self.strike) = Strike::default();
    }

    /// Ends the deployer: none of its calls is made any more or answered, not even to give back its lease, and those in
    /// flight are dropped.
    pub fn kill(&self) {
        self.dead.send_replace(true);
    }

    /// Returns when the deployer has been ended.
    pub async fn killed(&self) {
        // The sender lives as long as this.
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    /// What was changed so far or tried to, in order.
    pub fn mutations(&self) -> Vec<Mutation> {
        lock(&self.record).iter().map(|(_, mutation)| mutation.clone()).collect()
    }

    /// How many of these there were.
    pub fn count(&self, is_meant: impl Fn(&Mutation) -> bool) -> usize {
        lock(&self.record).iter().filter(|(_, mutation)| is_meant(mutation)).count()
    }

    /// Forgets what was changed, so that only what comes is counted.
    pub fn clear(&self) {
        lock(&self.record).clear();
    }

    fn next(&self, name: &str, part: Part, writes: bool) -> Option<Blow> {
        let mut strike = lock(&self.strike);
        let blow = strike.judge.as_mut()?(name, part, writes);
        strike.struck |= blow.is_some();
        blow
    }

    async fn living<T>(&self, call: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            () = self.killed() => std::future::pending().await,
            answer = call => answer,
        }
    }

    async fn mutate<T>(
        &self,
        service: &ServiceName,
        mutation: Mutation,
        name: &str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let made = async {
            lock(&self.record).push((service.clone(), mutation));
            call.await
        };
        self.call((Part::Provider, true), name, made).await
    }

    async fn call<T>(
        &self,
        (part, writes): (Part, bool),
        name: &str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let blow = self.next(name, part, writes);
        match blow {
            None => return self.living(call).await,
            Some(Blow::Slow(time)) => {
                return self
                    .living(async {
                        sleep(time).await;
                        call.await
                    })
                    .await;
            }
            Some(Blow::Fail(kind)) => return Err(Error::new(kind, format!("{name} was struck"))),
            Some(Blow::DieBefore) => self.kill(),
            Some(Blow::Lost | Blow::Hang | Blow::Die) => drop(self.living(call).await),
        }
        match blow {
            Some(Blow::Lost) => {
                Err(Error::new(ErrorKind::Timeout, format!("the answer to {name} was lost")))
            }
            Some(Blow::Die) => {
                self.kill();
                std::future::pending().await
            }
            _ => std::future::pending().await,
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

const READ: (Part, bool) = (Part::Provider, false);
const STORED: (Part, bool) = (Part::Store, false);
const WRITTEN: (Part, bool) = (Part::Store, true);

/// A provider or a store behind a [`Tap`].
#[derive(Clone)]
pub struct Tapped<T> {
    inner: T,
    tap: Tap,
}

impl<T: fmt::Debug> fmt::Debug for Tapped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tapped").field(&self.inner).finish()
    }
}

#[async_trait]
impl<T: Orchestrator> Orchestrator for Tapped<T> {
    fn capability(&self) -> OrchestratorCapability {
        self.inner.capability()
    }

    async fn observe(&self, service: &ServiceName) -> Result<ServiceState> {
        self.tap.call(READ, "observe tasks", self.inner.observe(service)).await
    }

    async fn register(&self, service: &ServiceName, release: &Release) -> Result<RevisionId> {
        let call = self.inner.register(service, release);
        self.tap.mutate(service, Mutation::Register, "register", call).await
    }

    async fn describe(&self, service: &ServiceName, revision: &RevisionId) -> Result<Release> {
        self.tap.call(READ, "describe", self.inner.describe(service, revision)).await
    }

    async fn launch(&self, launch: &Launch) -> Result<()> {
        let mutation = Mutation::Launch(launch.place, launch.count);
        self.tap.mutate(&launch.service, mutation, "launch", self.inner.launch(launch)).await
    }

    async fn stop(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()> {
        let call = self.inner.stop(service, place, tasks);
        self.tap.mutate(service, Mutation::Stop(place), "stop", call).await
    }

    async fn retire(&self, service: &ServiceName, place: Place) -> Result<()> {
        let call = self.inner.retire(service, place);
        self.tap.mutate(service, Mutation::Retire(place), "retire", call).await
    }

    async fn start_job(&self, job: &JobRun, revision: &RevisionId) -> Result<()> {
        let mutation = Mutation::StartJob(job.name.clone());
        let call = self.inner.start_job(job, revision);
        self.tap.mutate(&job.service, mutation, "start job", call).await
    }

    async fn await_job(&self, job: &JobRun, at_most: Duration) -> Result<JobState> {
        self.tap.call(READ, "await job", self.inner.await_job(job, at_most)).await
    }

    async fn remove_jobs(&self, service: &ServiceName) -> Result<()> {
        let call = self.inner.remove_jobs(service);
        self.tap.mutate(service, Mutation::RemoveJobs, "remove jobs", call).await
    }

    async fn changed(&self, service: &ServiceName, at_most: Duration) {
        self.tap.living(self.inner.changed(service, at_most)).await;
    }
}

#[async_trait]
impl<T: LoadBalancer> LoadBalancer for Tapped<T> {
    fn capability(&self) -> BalancerCapability {
        self.inner.capability()
    }

    async fn capability_for(&self, service: &ServiceName) -> Result<BalancerCapability> {
        self.tap
            .call(READ, "ask what the balancer can do", self.inner.capability_for(service))
            .await
    }

    async fn observe(&self, service: &ServiceName) -> Result<BalancerState> {
        self.tap.call(READ, "observe routing", self.inner.observe(service)).await
    }

    async fn set_routing(&self, service: &ServiceName, routing: &Routing) -> Result<()> {
        let call = self.inner.set_routing(service, routing);
        self.tap.mutate(service, Mutation::Routing(routing.clone()), "set routing", call).await
    }

    async fn set_test_route(&self, service: &ServiceName, place: Option<Place>) -> Result<()> {
        let call = self.inner.set_test_route(service, place);
        self.tap.mutate(service, Mutation::TestRoute(place), "set test route", call).await
    }

    async fn add_targets(
        &self,
        service: &ServiceName,
        place: Place,
        targets: &[Endpoint],
    ) -> Result<()> {
        let call = self.inner.add_targets(service, place, targets);
        let mutation = Mutation::AddTargets(place, targets.len());
        self.tap.mutate(service, mutation, "add targets", call).await
    }

    async fn remove_targets(
        &self,
        service: &ServiceName,
        place: Place,
        tasks: &[TaskId],
    ) -> Result<()> {
        let call = self.inner.remove_targets(service, place, tasks);
        let mutation = Mutation::RemoveTargets(place, tasks.len());
        self.tap.mutate(service, mutation, "remove targets", call).await
    }

    async fn drain(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()> {
        let call = self.inner.drain(service, place, tasks);
        self.tap.mutate(service, Mutation::Drain(place), "drain", call).await
    }

    async fn changed(&self, service: &ServiceName, at_most: Duration) {
        self.tap.living(self.inner.changed(service, at_most)).await;
    }
}

#[async_trait]
impl<T: Store> Store for Tapped<T> {
    async fn acquire(&self, service: &ServiceName, owner: &Owner, ttl: Duration) -> Result<Lease> {
        self.tap.call(WRITTEN, "acquire", self.inner.acquire(service, owner, ttl)).await
    }

    async fn steal(&self, service: &ServiceName, owner: &Owner, ttl: Duration) -> Result<Lease> {
        self.tap.call(WRITTEN, "steal", self.inner.steal(service, owner, ttl)).await
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        self.tap.call(STORED, "renew", self.inner.renew(lease)).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.tap.call(WRITTEN, "release", self.inner.release(lease)).await
    }

    async fn append(
        &self,
        lease: &Lease,
        journal: &Journal,
        expected: u64,
        lines: &[String],
    ) -> Result<u64> {
        let call = self.inner.append(lease, journal, expected, lines);
        self.tap.call(WRITTEN, "append", call).await
    }

    async fn read(&self, journal: &Journal, from: u64) -> Result<Vec<String>> {
        self.tap.call(STORED, "read", self.inner.read(journal, from)).await
    }

    async fn put(&self, lease: &Lease, name: &str, bytes: &[u8]) -> Result<()> {
        self.tap.call(WRITTEN, "put", self.inner.put(lease, name, bytes)).await
    }

    async fn get(&self, service: &ServiceName, name: &str) -> Result<Option<Vec<u8>>> {
        self.tap.call(STORED, "get", self.inner.get(service, name)).await
    }

    async fn post(&self, service: &ServiceName, rollout: &RolloutId, line: &str) -> Result<()> {
        self.tap.call(WRITTEN, "post", self.inner.post(service, rollout, line)).await
    }

    async fn posted(
        &self,
        service: &ServiceName,
        rollout: &RolloutId,
        from: u64,
    ) -> Result<Vec<String>> {
        self.tap.living(self.inner.posted(service, rollout, from)).await
    }

    async fn remove(&self, lease: &Lease, rollout: &RolloutId) -> Result<()> {
        self.tap.call(WRITTEN, "remove", self.inner.remove(lease, rollout)).await
    }

    async fn services(&self) -> Result<Vec<ServiceName>> {
        self.tap.call(STORED, "services", self.inner.services()).await
    }
}
