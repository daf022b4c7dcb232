//! The world in memory as a stage.

use std::sync::Arc;
use std::time::Duration;

use deploykit::{
    Clock, ErrorKind, HealthGate, LoadBalancer, MemoryStore, Place, Registry, ServiceName, Store,
};
use deploykit_testing::{
    Behaviour, Fault, Operation, RunningTraffic, Tally, Traffic, World, WorldGate,
};
use tokio::runtime::Runtime;

use crate::scenarios::stage::{Basics, Kind, Load, Making, Providers, QUICK, Stage, Version};

/// What the crashing version of the test images says.
const BROKEN: &str = "testbed: cannot start: the configuration of version B is broken";

pub(crate) struct Fake {
    pub(crate) world: World,
    basics: Basics,
    rate: u32,
    /// None: the directory.
    store: Option<MemoryStore>,
}

impl Fake {
    pub(crate) fn new(seed: u64, kind: Kind) -> Self {
        let world = World::new(seed);
        // Calls that answer at once would leave no moment at which anything could come between them.
        world.tune(|settings| settings.call_time = Duration::from_millis(2));
        let this = Self { world, basics: Basics::new("web", kind), rate: 200, store: None };
        let good = Behaviour::good();
        let slow = Duration::from_millis(1_500);
        for (version, behaviour) in [
            (Version::Good, good),
            (Version::Better, good),
            (Version::Crash, good.crashes().jobs_exit_with(3, BROKEN)),
            (Version::Unhealthy, good.never_ready()),
            (Version::Slow, good.slow(slow)),
            (Version::Errors, good.errors_after_first_live_request()),
        ] {
            this.world.image(&this.image(version), behaviour).unwrap();
        }
        this
    }

    fn gate(&self) -> WorldGate {
        match self.basics.kind {
            Kind::Tcp => self.world.tcp_gate(),
            Kind::Http | Kind::Worker => self.world.http_gate("/").with_max_latency(QUICK),
        }
    }

    /// One for whole series of rollouts: with few requests, and without a disk.
    pub(crate) fn quick(seed: u64) -> Self {
        Self { rate: 20, store: Some(MemoryStore::new()), ..Self::new(seed, Kind::Http) }
    }
}

/// Plays a scenario; the rules of safety hold in all of them.
pub(crate) async fn play(scenario: impl AsyncFnOnce(&Fake)) {
    play_with(Kind::Http, scenario).await;
}

pub(crate) async fn play_with(kind: Kind, scenario: impl AsyncFnOnce(&Fake)) {
    let fake = Fake::new(1, kind);
    scenario(&fake).await;
    fake.world.assert_safe();
}

impl Stage for Fake {
    type Load = RunningTraffic;

    /// Longer than a lease and than a failing call is made again.
    const PATIENCE: Duration = Duration::from_secs(600);

    const COUNT: u32 = 4;

    fn basics(&self) -> &Basics {
        &self.basics
    }

    fn providers(&self) -> Making {
        let (world, kind) = (self.world.clone(), self.basics.kind);
        Box::pin(async move {
            let balancer: Arc<dyn LoadBalancer> = Arc::new(world.balancer());
            Providers {
                registry: Arc::new(world.registry()),
                orchestrator: Arc::new(world.orchestrator()),
                balancer: (kind != Kind::Worker).then_some(balancer),
            }
        })
    }

    fn store(&self) -> Arc<dyn Store> {
        match &self.store {
            Some(store) => Arc::new(store.clone()),
            None => self.basics.directory_store(),
        }
    }

    fn clock(&self) -> impl Clock {
        self.world.clock()
    }

    fn image(&self, version: Version) -> String {
        format!("team/web:{version:?}").to_lowercase()
    }

    fn unreachable(&self) -> (Arc<dyn Registry>, String) {
        self.world.fail(Fault::error(Operation::Resolve, ErrorKind::Unavailable).always());
        (Arc::new(self.world.registry()), self.image(Version::Better))
    }

    fn smoke(&self) -> Arc<dyn HealthGate> {
        Arc::new(self.gate())
    }

    fn live(&self) -> Arc<dyn HealthGate> {
        Arc::new(self.gate().live())
    }

    async fn load(&self, service: &ServiceName) -> RunningTraffic {
        let traffic = match self.basics.kind {
            Kind::Tcp => Traffic::connections_per_second(self.rate, Duration::from_secs(1)),
            Kind::Http | Kind::Worker => Traffic::per_second(self.rate),
        };
        self.world.start_traffic(service, traffic)
    }

    async fn kill_task(&self, place: Place) {
        self.world.kill_task(&self.basics.service, place, 0).unwrap();
    }

    async fn lose_tasks(&self, place: Place) {
        self.world.scale(&self.basics.service, place, 0).unwrap();
        let tasks = || {
            let places = self.world.snapshot(&self.basics.service).places;
            places.get(&place).map_or(0, |place| place.tasks)
        };
        while tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn capacity(&self, enough: usize) -> (usize, usize) {
        let places = self.world.snapshot(&self.basics.service).places;
        let ready: usize = places.values().map(|place| place.ready).sum();
        (ready.min(enough), places.values().map(|place| place.tasks).sum())
    }

    async fn made(&self, _: &ServiceName) -> Vec<String> {
        Vec::new()
    }

    fn runtime(&self) -> Option<Runtime> {
        None
    }
}

impl Load for RunningTraffic {
    fn requests(&self) -> u64 {
        self.tally().requests
    }

    async fn stop(self) -> Tally {
        Self::stop(self).await
    }
}
