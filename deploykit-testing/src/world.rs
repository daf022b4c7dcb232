//! The world: what it holds, and what happens to it from outside.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deploykit_core::{
    Deployer, DeployerBuilder, Error, ErrorKind, ImageRef, ImageSource, MemoryStore, PinnedImage,
    Place, Release, Result, Routing, ServiceName, ServiceSpec, TaskId, TaskState,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::balancer::WorldBalancer;
use crate::behaviour::Behaviour;
use crate::clock::WorldClock;
use crate::fault::Fault;
use crate::gate::WorldGate;
use crate::orchestrator::WorldOrchestrator;
use crate::registry::{WorldRegistry, nameable};
use crate::safety::Violation;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::state::{At, State};
use crate::traffic::{RunningTraffic, Traffic};

/// A world in memory: a registry, an orchestrator and a balancer that share one state, requests that go through them, and
/// failures on demand.
///
/// It follows tokio's clock: with that paused, hours pass in no time; otherwise it runs in real time. Make it inside of
/// the runtime that uses it. The same seed and the same calls give the same run, to the byte. Cloning it gives another
/// handle to the same world.
#[derive(Clone)]
pub struct World {
    shared: Arc<Shared>,
}

struct Shared {
    seed: u64,
    state: Mutex<State>,
    began: Instant,
    changed: Notify,
}

impl World {
    /// An empty world. All that is random in it comes from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                seed,
                state: Mutex::new(State::new(seed)),
                began: Instant::now(),
                changed: Notify::new(),
            }),
        }
    }

    /// The seed that replays this run.
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// How long the world has existed, in its own time.
    pub fn now(&self) -> Duration {
        self.lock().now
    }

    /// Changes what the backends can do, or how fast they are, from now on.
    pub fn tune(&self, change: impl FnOnce(&mut Settings)) -> &Self {
        let mut state = self.lock();
        change(&mut state.settings);
        state.find_room();
        drop(state);
        self.tell_waiters();
        self
    }

    /// Puts an image into the registry, under a name such as `web:1`, and says how what it holds behaves. A tag that is
    /// there already gets new content, and a digest of its own.
    ///
    /// # Errors
    /// `Invalid` for a name that is no image's, or that carries a digest.
    pub fn image(&self, name: &str, behaviour: Behaviour) -> Result<PinnedImage> {
        let asked = nameable(name)?;
        let mut state = self.lock();
        let digest = state.make(name, behaviour);
        state.put(&asked, digest.clone());
        Ok(PinnedImage::pushed(asked, digest))
    }

    /// Builds an image that no registry has yet, under a name such as `web:build-17`, and says how what it holds behaves.
    /// [`Publish::image`](deploykit_core::Publish::image) puts it into the registry.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    pub fn build(&self, name: &str, behaviour: Behaviour) -> Result<()> {
        let image = nameable(name)?;
        let mut state = self.lock();
        let digest = state.make(name, behaviour);
        state.built.push((ImageSource::Engine(image), digest));
        Ok(())
    }

    /// Builds an image as a directory in the OCI image layout; nothing is written to a disk.
    /// [`Publish::layout`](deploykit_core::Publish::layout) puts it into the registry.
    pub fn build_layout(&self, directory: impl Into<PathBuf>, behaviour: Behaviour) {
        let directory = directory.into();
        let mut state = self.lock();
        let digest = state.make(&directory.display().to_string(), behaviour);
        state.built.push((ImageSource::Layout(directory), digest));
    }

    /// Begins with a service that runs already, deployed by somebody else: `count` ready tasks of `image` in place `A`,
    /// healthy behind the balancer, which sends them everything. It speaks HTTP on port 8080. Whatever room there is, its
    /// tasks have theirs.
    ///
    /// # Errors
    /// `Invalid` for a name that is no service's or image's, `NotFound` for an image that is not in the registry, `Busy` for a
    /// service that the world knows already.
    pub fn already_runs(&self, service: &str, image: &str, count: u32) -> Result<ServiceName> {
        let name = ServiceName::new(service)?;
        let asked = ImageRef::parse(image)?;
        let mut state = self.lock();
        let digest = state.resolve(&asked)?;
        let image = PinnedImage::pushed(asked, digest);
        let release = Release::new(image, ServiceSpec::http(8080, "/health"));
        if state.find(service).is_some() {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("service {name} is known in this world already"),
            ));
        }
        let revision = state.register(&name, &release)?;
        state.launch(&name, Place::A, &revision, count)?;
        let number = state.find_or_add(&name);
        state.grow_up_place(number, Place::A);
        state.settle_routing(number, Routing::all_to(Place::A));
        state.forget_past(number);
        drop(state);
        self.tell_waiters();
        Ok(name)
    }

    /// The orchestrator.
    pub fn orchestrator(&self) -> WorldOrchestrator {
        WorldOrchestrator::new(self.clone())
    }

    /// The load balancer.
    pub fn balancer(&self) -> WorldBalancer {
        WorldBalancer::new(self.clone())
    }

    /// The registry.
    pub fn registry(&self) -> WorldRegistry {
        WorldRegistry::new(self.clone())
    }

    /// A clock that shows the world's time; the world began on 2026-01-01.
    pub fn clock(&self) -> WorldClock {
        WorldClock::new(self.clone())
    }

    /// A deployer to be, of the world's own parts and clock, and of a store in memory that it shares with no other. What a
    /// test wants otherwise is given after this, and counts: gates, hooks, another store, no balancer.
    pub fn deployer(&self) -> DeployerBuilder {
        Deployer::builder()
            .registry(self.registry())
            .orchestrator(self.orchestrator())
            .balancer(self.balancer())
            .store(MemoryStore::new())
            .clock(self.clock())
    }

    /// A gate that asks for `path`, over the test route unless it is told otherwise.
    pub fn http_gate(&self, path: impl Into<String>) -> WorldGate {
        WorldGate::new(self.clone(), Some(path.into()))
    }

    /// A gate that makes one connection to a TCP service, over the test route unless it is told otherwise.
    pub fn tcp_gate(&self) -> WorldGate {
        WorldGate::new(self.clone(), None)
    }

    /// Begins to send requests to a service, over its live entry.
    pub fn start_traffic(&self, service: &ServiceName, traffic: Traffic) -> RunningTraffic {
        RunningTraffic::start(self.clone(), service, traffic)
    }

    /// Makes a call to a provider fail; several faults may wait at once, and the first that fits strikes.
    pub fn fail(&self, fault: Fault) {
        self.lock().calls.faults.push(fault);
    }

    /// Takes back all faults that have not struck yet.
    pub fn heal(&self) {
        self.lock().calls.faults.clear();
    }

    /// Kills the `nth` living task of a place, 0 being the oldest. What it was answering is lost, and the orchestrator
    /// restarts it.
    ///
    /// # Errors
    /// `NotFound` when there are not so many.
    pub fn kill_task(&self, service: &ServiceName, place: Place, nth: usize) -> Result<TaskId> {
        let mut state = self.lock();
        let (number, found) = state.service(service.as_str())?;
        let lives = |(_, task): &(u64, &crate::tasks::Task)| {
            use TaskState::{Failed, Stopping, Waiting};
            !matches!(task.state, Stopping | Failed { .. } | Waiting { .. })
        };
        let picked = found.tasks_of(place).filter(lives).nth(nth);
        let Some((task, id)) = picked.map(|(task, entry)| (task, entry.id.clone())) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("place {place} of service {service} has no living task number {nth}"),
            ));
        };
        state.kill(number, task);
        drop(state);
        self.tell_waiters();
        Ok(id)
    }

    /// Somebody else, an autoscaler for example, changes how many tasks a place has. New ones register themselves with the
    /// balancer; of those that there are too many the newest leave, drained.
    ///
    /// # Errors
    /// `NotFound` for a place that runs nothing.
    pub fn scale(&self, service: &ServiceName, place: Place, count: u32) -> Result<()> {
        let mut state = self.lock();
        let (number, found) = state.service(service.as_str())?;
        if !found.runs.contains_key(&place) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("place {place} of service {service} runs nothing that could be scaled"),
            ));
        }
        state.scale(number, place, count);
        drop(state);
        self.tell_waiters();
        Ok(())
    }

    /// Somebody else changes where requests go, at once.
    pub fn set_routing_by_someone_else(&self, service: &ServiceName, routing: &Routing) {
        let mut state = self.lock();
        let number = state.find_or_add(service);
        state.settle_routing(number, routing.clone());
        drop(state);
        self.tell_waiters();
    }

    /// Sets the clock that [`clock`](Self::clock) shows forward or, below zero, back, by so many milliseconds. Nothing else
    /// follows it.
    pub fn set_clock_off(&self, millis: i64) {
        let mut state = self.lock();
        state.clock_offset = state.clock_offset.saturating_add(millis);
    }

    /// All there is of a service now. One that is not known has nothing.
    pub fn snapshot(&self, service: &ServiceName) -> Snapshot {
        self.lock().snapshot(service.as_str())
    }

    /// The rules of safety that were broken so far, in order.
    pub fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }

    /// Checks that no rule of safety was broken.
    ///
    /// # Panics
    /// If one was, with the list and the seed that replays it.
    #[track_caller]
    pub fn assert_safe(&self) {
        let violations = self.violations();
        let list: Vec<_> = violations.iter().map(ToString::to_string).collect();
        assert!(
            list.is_empty(),
            "broken rules of safety, to be replayed with seed {}:\n  {}",
            self.seed(),
            list.join("\n  ")
        );
    }

    /// The state as of now.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        let shared = &self.shared;
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(shared.began.elapsed());
        state.remember();
        state
    }

    /// Waits for a point in the world's time.
    pub(crate) async fn until(&self, at: At) {
        match self.shared.began.checked_add(at) {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn tell_waiters(&self) {
        self.shared.changed.notify_waiters();
    }

    /// Waits until something about a service changes, for at most so long.
    pub(crate) async fn changed(&self, service: &ServiceName, at_most: Duration) {
        // Made first: it notices what is changed from here on.
        let changed = self.shared.changed.notified();
        let at = self.lock().next_look(service, at_most);
        tokio::select! {
            biased;
            () = changed => {}
            () = self.until(at) => {}
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("seed", &self.shared.seed).finish_non_exhaustive()
    }
}
