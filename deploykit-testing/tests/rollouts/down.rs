//! Providers that are down, or ask to be called less often.

use std::future::IntoFuture;
use std::time::Duration;

use deploykit_core::{
    BlueGreen, Change, Deployer, ErrorKind, Outcome, Place, Point, Rollout, Routing, ServiceName,
    hook_fn,
};
use deploykit_testing::{Behaviour, Blow, Fault, Operation, Part, Tap, Traffic, World};
use futures::future::join_all;
use tokio::time::sleep;

use crate::stage::{SECOND, Stage, careful};

const SERVICES: usize = 20;

/// Many services of one deployer, each of two tasks, under a few requests.
struct Fleet {
    world: World,
    deployer: Deployer,
    services: Vec<ServiceName>,
}

impl Fleet {
    fn new() -> Self {
        let world = World::new(11);
        for image in ["web:1", "web:2"] {
            world.image(image, Behaviour::good()).unwrap();
        }
        let service = |n| world.already_runs(&format!("web-{n}"), "web:1", 2).unwrap();
        let services = (0..SERVICES).map(service).collect();
        Self { deployer: world.deployer().build(), world, services }
    }

    async fn begin(&self, strategy: &BlueGreen) -> Vec<Rollout> {
        let begun = self.services.iter().map(async |service| {
            let plan = self.deployer.plan(service, strategy, Change::to("web:2")).await.unwrap();
            self.deployer.deploy(plan).await.unwrap()
        });
        join_all(begun).await
    }

    /// How often the orchestrator is asked what it runs, within a time.
    async fn looks_within(&self, time: Duration) -> u64 {
        let before = self.world.count(Operation::ObserveTasks);
        sleep(time).await;
        self.world.count(Operation::ObserveTasks) - before
    }
}

async fn all_are_promoted(rollouts: Vec<Rollout>) {
    for report in join_all(rollouts.into_iter().map(IntoFuture::into_future)).await {
        let report = report.unwrap();
        assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_down_is_asked_by_one_caller_now_and_then() {
    let fleet = Fleet::new();
    let rollouts = fleet.begin(&BlueGreen::new().bake(SECOND * 600)).await;
    sleep(SECOND * 30).await;
    fleet.world.fail(Fault::error(Operation::ObserveTasks, ErrorKind::Unavailable).always());
    sleep(SECOND * 30).await;
    let down = fleet.looks_within(SECOND * 60).await;
    // What cannot be seen is looked at each half second, by each of them for itself.
    assert!((1..60).contains(&down), "{down} looks while it was down");
    fleet.world.heal();
    all_are_promoted(rollouts).await;
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_for_a_provider_that_is_down_go_on_when_it_answers() {
    let fleet = Fleet::new();
    fleet.world.fail(Fault::error(Operation::Launch, ErrorKind::Unavailable).always());
    let rollouts = fleet.begin(&BlueGreen::new()).await;
    sleep(SECOND * 60).await;
    fleet.world.heal();
    sleep(SECOND * 10).await;
    let calls = fleet.world.calls();
    let good = calls.iter().filter(|c| c.operation == Operation::Launch && c.error.is_none());
    assert_eq!(good.count(), SERVICES);
    all_are_promoted(rollouts).await;
}

#[tokio::test(start_paused = true)]
async fn a_throttle_that_lasts_longer_than_a_failure_may_ends_no_rollout() {
    let fleet = Fleet::new();
    let traffic = fleet.world.start_traffic(&fleet.services[0], Traffic::per_second(5));
    fleet.world.fail(Fault::error(Operation::SetRouting, ErrorKind::Throttled).always());
    let rollouts = fleet.begin(&BlueGreen::new()).await;
    sleep(SECOND * 600).await;
    fleet.world.heal();
    all_are_promoted(rollouts).await;
    assert_eq!(traffic.stop().await.failed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_look_that_a_gate_needs_is_no_measurement_without_result() {
    let stage = Stage::new();
    let plan = stage.plan(&careful().bake(SECOND * 600).watch(["live"]), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.snapshot(&stage.web).routing == Routing::all_to(Place::B)).await;
    // The bake has begun.
    sleep(SECOND * 30).await;
    stage.world.fail(Fault::error(Operation::ObserveRouting, ErrorKind::Throttled).always());
    sleep(SECOND * 300).await;
    stage.world.heal();
    let report = rollout.await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_hook_is_not_what_a_provider_takes_that_throttles() {
    let (stage, tap) = (Stage::new(), Tap::new());
    let world = &stage.world;
    let deployer = world
        .deployer()
        .balancer(tap.wrap(world.balancer()))
        .store(tap.wrap(stage.store.clone()))
        .hook("tell", hook_fn(|_| async { Ok(()) }))
        .build();
    let plan = deployer.plan(&stage.web, &BlueGreen::new(), Change::to("web:2")).await.unwrap();
    let plan = plan.with_hook(Point::PreScaleUp, "tell", SECOND * 10);
    let (mut has_begun, mut left) = (false, 12);
    tap.strike_by(move |name, part, _| {
        has_begun |= name == "append";
        let strikes = has_begun && part == Part::Provider && left > 0;
        strikes.then(|| {
            left -= 1;
            Blow::Fail(ErrorKind::Throttled)
        })
    });
    let rollout = deployer.deploy(plan).await.unwrap();
    assert_eq!(rollout.await.unwrap().outcome, Outcome::Promoted);
}
