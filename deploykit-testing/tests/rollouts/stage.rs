//! A service in a world, and deployers that share a store.

use std::time::Duration;

use deploykit_core::{
    BlueGreen, Change, Deployer, GateUse, Judge, MemoryStore, Place, Plan, Report, Routing,
    ServiceName, Strategy, Weight,
};
use deploykit_testing::{Behaviour, RunningTraffic, Tap, Traffic, World};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// More than anything here takes; only what hangs waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(48 * 3_600);
/// More than a lease lives.
pub(crate) const LEASE: Duration = Duration::from_secs(100);

pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) web: ServiceName,
    pub(crate) store: MemoryStore,
}

impl Stage {
    /// Three tasks of `web:1` serve in place A.
    pub(crate) fn new() -> Self {
        Self::of_seed(7)
    }

    pub(crate) fn of_seed(seed: u64) -> Self {
        let world = World::new(seed);
        world.tune(|settings| settings.call_time = Duration::from_millis(2));
        for image in ["web:1", "web:2", "web:3"] {
            world.image(image, Behaviour::good()).unwrap();
        }
        let web = world.already_runs("web", "web:1", 3).unwrap();
        Self { world, web, store: MemoryStore::new() }
    }

    /// A deployer whose calls go through `tap`.
    pub(crate) fn deployer(&self, tap: &Tap) -> Deployer {
        let world = &self.world;
        Deployer::builder()
            .registry(world.registry())
            .orchestrator(tap.wrap(world.orchestrator()))
            .balancer(tap.wrap(world.balancer()))
            .store(tap.wrap(self.store.clone()))
            .gate("smoke", world.http_gate("/"))
            .gate("live", world.http_gate("/").live())
            .clock(world.clock())
            .build()
    }

    /// A deployer that nothing happens to.
    pub(crate) fn fresh(&self) -> Deployer {
        self.deployer(&Tap::new())
    }

    pub(crate) fn traffic(&self) -> RunningTraffic {
        self.world.start_traffic(&self.web, Traffic::per_second(40))
    }

    pub(crate) async fn plan(&self, strategy: &dyn Strategy, image: &str) -> Plan {
        self.fresh().plan(&self.web, strategy, Change::to(image)).await.unwrap()
    }

    /// Deploys by a deployer that nothing happens to.
    pub(crate) async fn deploy(&self, strategy: &dyn Strategy, image: &str) -> Report {
        let plan = self.plan(strategy, image).await;
        self.fresh().deploy(plan).await.unwrap().await.unwrap()
    }

    /// The deployer behind the tap dies. What was wrong with the world is over then, and so is the lease.
    pub(crate) async fn orphan(&self, tap: &Tap) {
        tap.kill();
        self.world.heal();
        tokio::time::sleep(LEASE).await;
    }

    /// Takes up what is open until nothing is, and removes what is held.
    pub(crate) async fn clean_up(&self) {
        let deployer = self.fresh();
        for _ in 0..3 {
            if let Some(rollout) = deployer.recover(&self.web).await.unwrap() {
                let _ = rollout.await.unwrap();
            }
        }
        deployer.settle_now(&self.web).await.unwrap();
    }

    /// The place that serves, if the service is wholly one version.
    pub(crate) fn whole(&self) -> Result<Place, String> {
        let seen = self.world.snapshot(&self.web);
        let mut places = seen.places.iter();
        let (Some((place, only)), None) = (places.next(), places.next()) else {
            return Err(seen.to_string());
        };
        let tasks = [only.desired as usize, only.tasks, only.ready, only.targets, only.healthy];
        let routed = seen.routing == Routing::all_to(*place) && seen.test_route.is_none();
        if tasks == [3; 5] && routed { Ok(*place) } else { Err(seen.to_string()) }
    }

    /// Lets time pass until something is so.
    pub(crate) async fn until(&self, is: impl Fn(&World) -> bool) {
        let deadline = self.world.now() + PATIENCE;
        while !is(&self.world) {
            assert!(self.world.now() < deadline, "{}", self.world.snapshot(&self.web));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn half() -> Weight {
    Weight::percent(50).unwrap()
}

/// Every kind of step, and short waits.
pub(crate) fn careful() -> BlueGreen {
    let judge = Judge::new()
        .with_interval(Duration::from_millis(200))
        .with_successes(2)
        .with_deadline(Duration::from_secs(60));
    BlueGreen::new()
        .healthy_within(Duration::from_secs(60))
        .drain(Duration::from_secs(20))
        .validate([GateUse::new("smoke").with_judge(judge.clone())])
        .shift_in([half()], SECOND)
        .watch([GateUse::new("live").with_judge(judge)])
        .bake(SECOND)
}
