//! How fast the whole is, and how fast a rollout is replayed.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use deploykit_core::{
    Canary, Change, Deployer, GateUse, Journal, Judge, MemoryStore, OnOrphan, Outcome, RolloutId,
    ServiceName, Store, Weight,
};
use deploykit_testing::{Behaviour, Tap, Traffic, World};
use tokio::runtime::Builder;
use tokio::time::sleep;

/// Each figure is the median of so many runs.
const RUNS: usize = 7;
const CANARIES: u32 = 300;
const MINUTE: Duration = Duration::from_secs(60);
/// A deployer that died keeps its lease for so long.
const LEASE: Duration = Duration::from_secs(61);
/// How many steps make a journal of a thousand lines.
const STEPS: u16 = 246;

pub(crate) fn tell() -> ExitCode {
    let canaries = runs(|| {
        let began = Instant::now();
        (0..CANARIES).for_each(|seed| on_a_clock_of_its_own(canary(seed.into())));
        f64::from(CANARIES) / began.elapsed().as_secs_f64()
    });
    println!("five-step canaries a second: {}", told(&canaries));
    let mut lines = 0;
    let replays = runs(|| {
        let (took, length) = on_a_clock_of_its_own(replay());
        lines = length;
        took.as_secs_f64() * 1e3
    });
    println!("recover, with a journal of {lines} lines, in ms: {}", told(&replays));
    ExitCode::SUCCESS
}

fn on_a_clock_of_its_own<T>(work: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(work)
}

fn runs(mut measure: impl FnMut() -> f64) -> Vec<f64> {
    let mut all: Vec<f64> = (0..RUNS).map(|_| measure()).collect();
    all.sort_by(f64::total_cmp);
    all
}

fn told(runs: &[f64]) -> String {
    format!(
        "median {:.2}, from {:.2} to {:.2}",
        runs[runs.len() / 2],
        runs[0],
        runs[runs.len() - 1]
    )
}

fn world(seed: u64) -> (World, ServiceName) {
    let world = World::new(seed);
    world.image("web:1", Behaviour::good()).unwrap();
    world.image("web:2", Behaviour::good()).unwrap();
    let web = world.already_runs("web", "web:1", 2).unwrap();
    (world, web)
}

fn deployer(world: &World, store: &MemoryStore, tap: &Tap) -> Deployer {
    Deployer::builder()
        .registry(world.registry())
        .orchestrator(tap.wrap(world.orchestrator()))
        .balancer(tap.wrap(world.balancer()))
        .store(tap.wrap(store.clone()))
        .clock(world.clock())
        .build()
}

/// Five steps of a minute each under a gate that is measured each minute, with one request a second.
async fn canary(seed: u64) {
    let (world, web) = world(seed);
    let gate =
        GateUse::new("live").with_judge(Judge::new().with_interval(MINUTE).with_successes(1));
    let steps = [100, 200, 400, 600, 800];
    let steps = steps.map(|share| (Weight::thousandths(share).unwrap(), MINUTE));
    let canary = Canary::steps(steps).watch([gate]);
    let traffic = world.start_traffic(&web, Traffic::per_second(1));
    let deployer = world.deployer().gate("live", world.http_gate("/").live()).build();
    let rollout = deployer.rollout(&web, &canary, Change::to("web:2")).await.unwrap();
    assert_eq!(rollout.await.unwrap().outcome, Outcome::Promoted);
    world.assert_safe();
    assert_eq!(traffic.stop().await.failed, 0);
}

/// How long it takes to take up a rollout whose deployer died after some thousand events, and how many lines there are.
async fn replay() -> (Duration, usize) {
    let (world, web) = world(1);
    let store = MemoryStore::new();
    let steps =
        (1..=STEPS).map(|share| (Weight::thousandths(share).unwrap(), Duration::from_millis(10)));
    let tap = Tap::new();
    let first = deployer(&world, &store, &tap);
    let plan =
        first.plan(&web, &Canary::steps(steps).bake(MINUTE), Change::to("web:2")).await.unwrap();
    let rollout = first.deploy(plan.with_on_orphan(OnOrphan::Continue)).await.unwrap();
    while world.snapshot(&web).routing.weight(deploykit_core::Place::B) < Weight::ALL {
        sleep(Duration::from_millis(100)).await;
    }
    tap.kill();
    sleep(LEASE).await;
    drop(rollout);
    let journal = Journal::Rollout(web.clone(), RolloutId::new("web-1"));
    let lines = store.read(&journal, 0).await.unwrap().len();
    let second = deployer(&world, &store, &Tap::new());
    let began = Instant::now();
    let rollout = second.recover(&web).await.unwrap().unwrap();
    let took = began.elapsed();
    rollout.abort("ann");
    let _ = rollout.await;
    (took, lines)
}
