//! Where scenarios are played: the same words for a world in memory and for real parts.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deploykit::{
    Clock, Deployer, DeployerBuilder, DirectoryStore, Error, HealthGate, Hook, LoadBalancer,
    Measurement, Orchestrator, Place, Plan, Point, Registry, Result, Rollout, ServiceName,
    ServiceSpec, Store, gate_fn, hook_fn,
};
use deploykit_testing::{Tally, Tap};
use tokio::runtime::Runtime;

/// What kind of service is deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It answers requests over HTTP, behind a balancer.
    Http,
    /// It takes connections, behind a balancer that passes them on.
    Tcp,
    /// It takes its work from elsewhere: nothing sends requests to it, and no balancer is there.
    Worker,
}

impl Kind {
    pub(crate) fn spec(self) -> ServiceSpec {
        let spec = match self {
            Self::Http => ServiceSpec::http(8080, "/health"),
            Self::Tcp => ServiceSpec::tcp(8080),
            Self::Worker => ServiceSpec::worker(),
        };
        spec.with_stop_grace(Duration::from_secs(2))
    }
}

/// What an image does once it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// The one that serves at first; it answers as `A`.
    Good,
    /// Good as well; it and all bad ones answer as `B`.
    Better,
    /// Ends with exit code 3 before it is ready.
    Crash,
    /// Never becomes ready.
    Unhealthy,
    /// Answers slower than the gate `smoke` allows.
    Slow,
    /// Answers 500 after its first live request.
    Errors,
}

/// How soon gates want an answer. The slow version takes 1.5 s.
pub(crate) const QUICK: Duration = Duration::from_millis(1_200);

/// The three providers, as a process of its own would have made them.
#[derive(Clone)]
pub(crate) struct Providers {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) orchestrator: Arc<dyn Orchestrator>,
    /// None for a worker.
    pub(crate) balancer: Option<Arc<dyn LoadBalancer>>,
}

pub(crate) type Making = Pin<Box<dyn Future<Output = Providers> + Send>>;

pub(crate) trait Stage {
    type Load: Load;

    /// Far more than anything takes; only a failure waits for it.
    const PATIENCE: Duration;

    /// How many tasks there are where a rollout has to have several batches.
    const COUNT: u32;

    fn basics(&self) -> &Basics;
    fn providers(&self) -> Making;
    /// A handle of its own on what is kept.
    fn store(&self) -> Arc<dyn Store>;
    fn clock(&self) -> impl Clock;
    fn image(&self, version: Version) -> String;
    /// A registry that cannot be reached, and an image that would be in it.
    fn unreachable(&self) -> (Arc<dyn Registry>, String);
    /// Asks over the test route, and wants an answer that is [`QUICK`].
    fn smoke(&self) -> Arc<dyn HealthGate>;
    /// Asks as live requests do, and wants the same.
    fn live(&self) -> Arc<dyn HealthGate>;

    /// Begins to send live requests, of which some take two seconds.
    async fn load(&self, service: &ServiceName) -> Self::Load;

    /// A task of a place dies, and nobody has asked for it.
    async fn kill_task(&self, place: Place);

    /// All tasks of a place go, and nobody has asked for it.
    async fn lose_tasks(&self, place: Place);

    /// How many tasks are ready, counted no further than `enough`, and how many live; as somebody else sees it, who shares
    /// nothing with a deployer.
    async fn capacity(&self, enough: usize) -> (usize, usize);

    /// Whatever was made for the service outside, by name and identity; a task that was replaced by one of its name shows.
    async fn made(&self, service: &ServiceName) -> Vec<String>;

    /// A runtime that can be taken away from a deployer; none where time is not real, and other runtimes have another.
    fn runtime(&self) -> Option<Runtime>;
}

/// Requests that are being sent.
pub(crate) trait Load {
    fn requests(&self) -> u64;
    async fn stop(self) -> Tally;
}

/// What every stage has.
pub(crate) struct Basics {
    pub(crate) kind: Kind,
    pub(crate) service: ServiceName,
    /// A second service, for those scenarios that need one.
    pub(crate) other: ServiceName,
    pub(crate) directory: Directory,
    /// What deployers have changed at providers.
    pub(crate) log: Tap,
    /// What the gate `switch` says.
    pub(crate) switch: Switch,
    /// Where the hook `note` was run.
    pub(crate) notes: Notes,
}

impl Basics {
    pub(crate) fn new(service: &str, kind: Kind) -> Self {
        Self {
            kind,
            service: ServiceName::new(service).unwrap(),
            other: ServiceName::new(format!("{service}-2")).unwrap(),
            directory: Directory::new(),
            log: Tap::new(),
            switch: Switch::default(),
            notes: Notes::default(),
        }
    }

    pub(crate) fn directory_store(&self) -> Arc<dyn Store> {
        Arc::new(DirectoryStore::open(self.directory.path()).unwrap())
    }

    fn of_service(&self, file: &str) -> PathBuf {
        self.directory.path().join(self.service.as_str()).join(file)
    }

    pub(crate) fn history(&self) -> PathBuf {
        self.of_service("history.jsonl")
    }

    pub(crate) fn lease(&self) -> PathBuf {
        self.of_service("lease.json")
    }

    pub(crate) fn token(&self) -> PathBuf {
        self.of_service("token")
    }

    /// The journal of the second rollout: the first one has brought what serves.
    pub(crate) fn journal(&self) -> PathBuf {
        self.of_service("journal").join(format!("{}-2.jsonl", self.service))
    }
}

/// A deployer that shares nothing with others but the parts and the store's directory, as one of another process.
pub(crate) async fn deployer<S: Stage>(stage: &S) -> Deployer {
    deployer_of(stage, "alice").await
}

pub(crate) async fn deployer_of<S: Stage>(stage: &S, owner: &str) -> Deployer {
    assemble(stage, owner, stage.providers().await, &stage.basics().log.another())
}

pub(crate) fn assemble<S: Stage>(
    stage: &S,
    owner: &str,
    providers: Providers,
    tap: &Tap,
) -> Deployer {
    gateless(stage, providers, tap)
        .gate("smoke", stage.smoke())
        .gate("live", stage.live())
        .gate("switch", stage.basics().switch.gate())
        .hook("note", stage.basics().notes.hook())
        .owner(owner)
        .build()
}

fn gateless<S: Stage>(stage: &S, providers: Providers, tap: &Tap) -> DeployerBuilder {
    let builder = Deployer::builder()
        .registry(providers.registry)
        .orchestrator(tap.wrap(providers.orchestrator));
    let builder = match providers.balancer {
        Some(balancer) => builder.balancer(tap.wrap(balancer)),
        None => builder.without_balancer(),
    };
    builder.store(tap.wrap(stage.store())).clock(stage.clock())
}

/// A deployer to be, without gates.
pub(crate) async fn bare<S: Stage>(stage: &S) -> DeployerBuilder {
    gateless(stage, stage.providers().await, &stage.basics().log.another())
}

/// A deployer that is going to die.
pub(crate) struct Doomed {
    deployer: Deployer,
    tap: Tap,
    runtime: Option<Runtime>,
}

impl Doomed {
    pub(crate) async fn new<S: Stage>(stage: &S) -> Self {
        Self::of(stage, stage.basics().log.another()).await
    }

    pub(crate) async fn of<S: Stage>(stage: &S, tap: Tap) -> Self {
        let runtime = stage.runtime();
        // Whatever runs behind its providers dies with it.
        let providers = match &runtime {
            Some(runtime) => runtime.spawn(stage.providers()).await.unwrap(),
            None => stage.providers().await,
        };
        let deployer = assemble(stage, "mallory", providers, &tap);
        Self { deployer, tap, runtime }
    }

    pub(crate) async fn deploy(&self, plan: Plan) -> Result<Rollout> {
        let deployer = self.deployer.clone();
        match &self.runtime {
            Some(runtime) => {
                runtime.spawn(async move { deployer.deploy(plan).await }).await.unwrap()
            }
            None => deployer.deploy(plan).await,
        }
    }

    /// From here on it does nothing any more, not even give back its lease; what it was waiting for is dropped.
    pub(crate) async fn die(self) {
        self.tap.kill();
        if let Some(runtime) = self.runtime {
            tokio::task::spawn_blocking(move || drop(runtime)).await.unwrap();
        }
    }
}

/// A gate whose answer the test sets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Switch(Arc<AtomicU32>);

impl Switch {
    const PASS: u32 = 0;
    const FAIL: u32 = 1;

    pub(crate) fn fail(&self) {
        self.0.store(Self::FAIL, Ordering::SeqCst);
    }

    pub(crate) fn know_nothing(&self) {
        self.0.store(Self::FAIL + 1, Ordering::SeqCst);
    }

    fn gate(&self) -> impl HealthGate {
        let this = self.clone();
        gate_fn(move |_| {
            let set = this.0.load(Ordering::SeqCst);
            async move {
                Ok(match set {
                    Self::PASS => Measurement::pass("the switch says so"),
                    Self::FAIL => Measurement::fail("the switch says so"),
                    _ => Measurement::inconclusive("the switch says nothing"),
                })
            }
        })
    }
}

/// A hook that writes down where it is run, and fails where it is told to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Mutex<(Vec<Point>, Option<Point>)>>);

impl Notes {
    /// Where it was run since it was asked last.
    pub(crate) fn take(&self) -> Vec<Point> {
        std::mem::take(&mut self.0.lock().unwrap().0)
    }

    pub(crate) fn fail_at(&self, point: Point) {
        self.0.lock().unwrap().1 = Some(point);
    }

    fn hook(&self) -> impl Hook {
        let this = self.clone();
        hook_fn(move |context| {
            let mut notes = this.0.lock().unwrap();
            notes.0.push(context.point);
            let fails = notes.1 == Some(context.point);
            async move { if fails { Err(Error::invalid("it is Friday")) } else { Ok(()) } }
        })
    }
}

/// A directory of a test's own, gone with it.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            remove_stale();
        }
        // Short: the path of a socket in it must fit.
        let path = std::env::temp_dir().join(format!("dkt-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes what tests left that were killed: the directories of processes that are gone. Where that cannot be seen, nothing.
fn remove_stale() {
    if !Path::new("/proc/self").exists() {
        return;
    }
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("dkt-")?.split_once('-'));
        let Some(pid) = pid.and_then(|(pid, _)| pid.parse::<u32>().ok()) else { continue };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            // Somebody else's, or just removed by another test: no matter.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
