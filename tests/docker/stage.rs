//! Real parts as a stage: the Engine, HAProxy, requests over loopback. Everything is gone when a test ends, however it ends.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use deploykit::docker::{self, DockerRegistry, Engine, Frontend, HaProxy, LocalImages};
use deploykit::{
    Clock, HealthGate, HttpGate, LoadBalancer, Orchestrator, Place, Registry, ServiceName, Store,
    SystemClock, TcpGate,
};
use deploykit_testing::Tally;
use deploykit_testing::load::{self, Running};
use tokio::runtime::Runtime;

use crate::connections::Connections;
use crate::scenarios::stage::{Basics, Kind, Load, Making, Providers, QUICK, Stage, Version};

/// A scenario that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(180);

pub(crate) struct Docker {
    basics: Basics,
    pub(crate) engine: Engine,
    /// None for a worker.
    haproxy: Option<HaProxy>,
    /// Removed before the directory in which its files are.
    _leavings: Leavings,
}

/// Plays a scenario on parts of its own.
pub(crate) async fn play(scenario: impl AsyncFnOnce(&Docker)) {
    play_with(Kind::Http, scenario).await;
}

pub(crate) async fn play_with(kind: Kind, scenario: impl AsyncFnOnce(&Docker)) {
    let docker = Docker::new(kind).await;
    let played = tokio::time::timeout(LONGEST, scenario(&docker)).await;
    assert!(played.is_ok(), "it has not ended within {LONGEST:?}");
}

impl Docker {
    async fn new(kind: Kind) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let basics = Basics::new(&format!("dkt{}-{number}", std::process::id()), kind);
        let leavings = Leavings { service: basics.service.clone(), other: basics.other.clone() };
        let engine = Engine::connect().await.expect("these tests need a Docker Engine");
        let haproxy = match kind {
            Kind::Worker => None,
            Kind::Http | Kind::Tcp => Some(haproxy(&basics, &engine).await),
        };
        Self { basics, engine, haproxy, _leavings: leavings }
    }

    pub(crate) fn haproxy(&self) -> &HaProxy {
        self.haproxy.as_ref().expect("a worker has no balancer")
    }

    pub(crate) fn haproxys_container(&self) -> String {
        haproxys_container(&self.basics.service)
    }

    /// The directory in which HAProxy's files are.
    pub(crate) fn state(&self) -> std::path::PathBuf {
        state(&self.basics)
    }
}

fn state(basics: &Basics) -> std::path::PathBuf {
    basics.directory.path().join("haproxy")
}

async fn haproxy(basics: &Basics, engine: &Engine) -> HaProxy {
    let haproxy = HaProxy::builder()
        .engine(engine.clone())
        .name(basics.service.as_str())
        .image("deploykit/haproxy:parts")
        .network(basics.service.as_str())
        .publish("127.0.0.1:0:8080")
        .publish("127.0.0.1:0:8081")
        .state_dir(state(basics))
        .start()
        .await
        .expect("run `cargo xtask parts` first");
    for (service, port) in [(&basics.service, 8080), (&basics.other, 8081)] {
        let frontend = match basics.kind {
            Kind::Tcp => Frontend::tcp(port),
            Kind::Http | Kind::Worker => Frontend::new(port).with_health_path("/health"),
        };
        haproxy.add_service(service, &frontend).await.unwrap();
    }
    haproxy
}

fn haproxys_container(service: &ServiceName) -> String {
    format!("deploykit-haproxy-{service}")
}

pub(crate) fn registrys_container(service: &ServiceName) -> String {
    format!("{service}-registry")
}

/// Runs the Engine's own client, and returns what it prints, a line each.
pub(crate) fn engine(arguments: &[&str]) -> Vec<String> {
    try_engine(arguments).unwrap_or_else(|why| panic!("docker {}: {why}", arguments.join(" ")))
}

/// The same, where failure is an answer too.
pub(crate) fn try_engine(arguments: &[&str]) -> Result<Vec<String>, String> {
    let done = Command::new("docker").args(arguments).output().map_err(|why| why.to_string())?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect())
}

impl Stage for Docker {
    type Load = Sent;

    const PATIENCE: Duration = Duration::from_secs(60);

    const COUNT: u32 = 3;

    fn basics(&self) -> &Basics {
        &self.basics
    }

    fn providers(&self) -> Making {
        let (haproxy, network) = (self.haproxy.clone(), self.basics.service.clone());
        Box::pin(async move {
            let engine = Engine::connect().await.unwrap();
            let orchestrator = docker::Docker::new(engine.clone()).with_network(network.as_str());
            Providers {
                registry: Arc::new(LocalImages::new(engine)),
                orchestrator: Arc::new(orchestrator),
                balancer: haproxy.map(|haproxy| Arc::new(haproxy) as Arc<dyn LoadBalancer>),
            }
        })
    }

    fn store(&self) -> Arc<dyn Store> {
        self.basics.directory_store()
    }

    fn clock(&self) -> impl Clock {
        SystemClock
    }

    fn image(&self, version: Version) -> String {
        let tag = match version {
            Version::Good => "good",
            Version::Better => "good-b",
            Version::Crash => "crash",
            Version::Unhealthy => "unhealthy",
            Version::Slow => "slow",
            Version::Errors => "errors",
        };
        format!("deploykit/testbed:{tag}")
    }

    fn unreachable(&self) -> (Arc<dyn Registry>, String) {
        // Nobody listens on port 1.
        (Arc::new(DockerRegistry::new(self.engine.clone())), "127.0.0.1:1/team/web:1".to_owned())
    }

    fn smoke(&self) -> Arc<dyn HealthGate> {
        Arc::new(HttpGate::new("/").with_max_latency(QUICK))
    }

    fn live(&self) -> Arc<dyn HealthGate> {
        match self.basics.kind {
            Kind::Tcp => Arc::new(TcpGate::new().live()),
            Kind::Http | Kind::Worker => {
                Arc::new(HttpGate::new("/").live().with_max_latency(QUICK))
            }
        }
    }

    async fn load(&self, service: &ServiceName) -> Sent {
        let entry = self.haproxy().observe(service).await.unwrap().entry.unwrap();
        match entry.url.strip_prefix("tcp://") {
            Some(address) => Sent::Connections(Connections::start(address.to_owned())),
            None => Sent::Requests(load::Load::new(entry.url).start().await.unwrap()),
        }
    }

    async fn kill_task(&self, place: Place) {
        let orchestrator = self.providers().await.orchestrator;
        let state = orchestrator.observe(&self.basics.service).await.unwrap();
        engine(&["kill", state.place(place).unwrap().tasks[0].id.as_str()]);
    }

    async fn lose_tasks(&self, place: Place) {
        let service = format!("label=deploykit.service={}", self.basics.service);
        let place = format!("label=deploykit.place={place}");
        let tasks = engine(&["ps", "--all", "--quiet", "--filter", &service, "--filter", &place]);
        let remove = ["rm", "--force"].into_iter().chain(tasks.iter().map(String::as_str));
        engine(&remove.collect::<Vec<_>>());
    }

    async fn capacity(&self, enough: usize) -> (usize, usize) {
        crate::watch::capacity(&self.engine, &self.basics, enough).await
    }

    async fn made(&self, service: &ServiceName) -> Vec<String> {
        let label = format!("label=deploykit.service={service}");
        engine(&["ps", "--all", "--filter", &label, "--format", "{{.Names}} {{.ID}}"])
    }

    fn runtime(&self) -> Option<Runtime> {
        Some(Runtime::new().unwrap())
    }
}

/// What is being sent, as the service takes it.
pub(crate) enum Sent {
    Requests(Running),
    Connections(Connections),
}

impl Load for Sent {
    fn requests(&self) -> u64 {
        match self {
            Self::Requests(running) => running.requests(),
            Self::Connections(connections) => connections.requests(),
        }
    }

    async fn stop(self) -> Tally {
        match self {
            Self::Requests(running) => running.stop().await.tally,
            Self::Connections(connections) => connections.stop().await,
        }
    }
}

/// What there is of a test on the Engine.
struct Leavings {
    service: ServiceName,
    other: ServiceName,
}

impl Drop for Leavings {
    fn drop(&mut self) {
        // Failures are of no interest: the test may have failed before anything was there.
        let mut containers =
            vec![haproxys_container(&self.service), registrys_container(&self.service)];
        for service in [&self.service, &self.other] {
            let label = format!("label=deploykit.service={service}");
            containers.extend(
                try_engine(&["ps", "--all", "--quiet", "--filter", &label]).into_iter().flatten(),
            );
        }
        let remove = ["rm", "--force", "--volumes"].into_iter();
        let remove: Vec<_> = remove.chain(containers.iter().map(String::as_str)).collect();
        let _ = try_engine(&remove);
        let _ = try_engine(&["network", "rm", self.service.as_str()]);
    }
}
