//! Hooks of rollouts in the world.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use deploykit_core::{
    BlueGreen, Change, Deployer, Error, MemoryStore, Outcome, Point, Report, hook_fn, hook_of,
};
use deploykit_testing::{Behaviour, World};

const TIME: Duration = Duration::from_secs(30);

/// Deploys `web:2`, with every hook written down as it is run, and `broken` failing.
async fn run(
    points: &[Point],
    behaviour: Behaviour,
    broken: Option<Point>,
) -> (Report, Vec<String>) {
    let world = World::new(7);
    world.image("web:1", Behaviour::good()).unwrap();
    world.image("web:2", behaviour).unwrap();
    let web = world.already_runs("web", "web:1", 2).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = hook_fn({
        let seen = Arc::clone(&seen);
        move |context| {
            let line = format!("{} {}", context.point, context.rollout.candidate);
            seen.lock().unwrap().push(line);
            let fails = broken == Some(context.point);
            async move { if fails { Err(Error::invalid("it is Friday")) } else { Ok(()) } }
        }
    });
    let deployer = Deployer::builder()
        .registry(world.registry())
        .orchestrator(world.orchestrator())
        .balancer(world.balancer())
        .store(MemoryStore::new())
        .clock(world.clock())
        .hook("note", note)
        .build();
    let mut plan = deployer.plan(&web, &BlueGreen::new(), Change::to("web:2")).await.unwrap();
    for point in points {
        plan = plan.with_hook(*point, "note", TIME);
    }
    let report = deployer.deploy(plan).await.unwrap().await.unwrap();
    let seen = seen.lock().unwrap().clone();
    (report, seen)
}

#[tokio::test(start_paused = true)]
async fn hooks_run_at_their_points_and_know_the_rollout() {
    let points = [Point::PreScaleUp, Point::CleanUp, Point::OnUndo];
    let (report, seen) = run(&points, Behaviour::good(), None).await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_eq!(seen, ["PRE_SCALE_UP B", "CLEAN_UP B"]);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_undoes_the_rollout_and_says_why() {
    let points = [Point::PostScaleUp, Point::OnUndo, Point::OnUndone];
    let (report, seen) = run(&points, Behaviour::good(), Some(Point::PostScaleUp)).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert!(report.why.unwrap().contains("note at POST_SCALE_UP: it is Friday"));
    assert_eq!(seen, ["POST_SCALE_UP B", "ON_UNDO B", "ON_UNDONE B"]);
}

#[tokio::test(start_paused = true)]
async fn a_gate_as_a_hook_undoes_what_it_finds_bad() {
    let world = World::new(7);
    world.image("web:1", Behaviour::good()).unwrap();
    world.image("web:2", Behaviour::good().slow(Duration::from_secs(3))).unwrap();
    let web = world.already_runs("web", "web:1", 2).unwrap();
    let quick = world.http_gate("/").live().with_max_latency(Duration::from_secs(1));
    let deployer = Deployer::builder()
        .registry(world.registry())
        .orchestrator(world.orchestrator())
        .balancer(world.balancer())
        .store(MemoryStore::new())
        .clock(world.clock())
        .hook("check", hook_of(quick))
        .build();
    let plan = deployer.plan(&web, &BlueGreen::new(), Change::to("web:2")).await.unwrap();
    let plan = plan.with_hook(Point::PostProductionTrafficShift, "check", TIME);
    let report = deployer.deploy(plan).await.unwrap().await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_does_not_end_in_time_undoes_the_rollout() {
    let world = World::new(7);
    world.image("web:1", Behaviour::good()).unwrap();
    world.image("web:2", Behaviour::good()).unwrap();
    let web = world.already_runs("web", "web:1", 2).unwrap();
    let deployer = Deployer::builder()
        .registry(world.registry())
        .orchestrator(world.orchestrator())
        .balancer(world.balancer())
        .store(MemoryStore::new())
        .clock(world.clock())
        .hook("slow", hook_fn(|_| std::future::pending()))
        .build();
    let plan = deployer.plan(&web, &BlueGreen::new(), Change::to("web:2")).await.unwrap();
    let plan = plan.with_hook(Point::PreScaleUp, "slow", TIME);
    let report = deployer.deploy(plan).await.unwrap().await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert!(report.why.unwrap().contains("did not end within 30 s"));
}

#[tokio::test(start_paused = true)]
async fn a_plan_with_a_hook_that_nobody_gave_is_refused_before_anything_moves() {
    let world = World::new(7);
    world.image("web:1", Behaviour::good()).unwrap();
    let web = world.already_runs("web", "web:1", 2).unwrap();
    let deployer = Deployer::builder()
        .registry(world.registry())
        .orchestrator(world.orchestrator())
        .balancer(world.balancer())
        .store(MemoryStore::new())
        .clock(world.clock())
        .build();
    let plan = deployer.plan(&web, &BlueGreen::new(), Change::restart()).await.unwrap();
    let error = deployer.deploy(plan.with_hook(Point::CleanUp, "tell", TIME)).await.unwrap_err();
    assert!(error.to_string().contains("hook \"tell\""), "{error}");
    assert!(world.calls().is_empty());
}
