//! What others see of a rollout while it runs.

use deploykit_core::{
    BlueGreen, Canary, Change, Deployer, ErrorKind, OnOrphan, Place, Rollout, Routing, ServiceName,
    ServiceSpec, Status, Strategy,
};
use deploykit_testing::Tap;

use crate::stage::{SECOND, Stage, careful, half};

async fn begun(stage: &Stage, strategy: &dyn Strategy, routing: &Routing) -> (Rollout, Status) {
    let plan = stage.plan(strategy, "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.snapshot(&stage.web).routing == *routing).await;
    // It is written down by then.
    tokio::time::sleep(SECOND).await;
    (rollout, stage.fresh().status(&stage.web).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn what_served_serves_while_its_first_rollout_shares_the_requests() {
    let stage = Stage::new();
    let split = Routing::split(Place::A, Place::B, half());
    let (_rollout, status) = begun(&stage, &Canary::steps([(half(), SECOND * 60)]), &split).await;
    assert_eq!(status.stable.unwrap().place, Place::A);
    assert_eq!(status.routing, split);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_bakes_is_not_stable_yet() {
    let stage = Stage::new();
    let strategy = BlueGreen::new().bake(SECOND * 60);
    let (_rollout, status) = begun(&stage, &strategy, &Routing::all_to(Place::B)).await;
    assert_eq!(status.stable.unwrap().place, Place::A);
}

#[tokio::test(start_paused = true)]
async fn nothing_serves_before_the_first_deployment_is_promoted() {
    let stage = Stage::new();
    let new = ServiceName::new("new").unwrap();
    let change = Change::to("web:2").with_spec(ServiceSpec::http(8080, "/health"));
    let strategy = BlueGreen::new().bake(SECOND * 60);
    let plan = stage.fresh().plan(&new, &strategy, change).await.unwrap();
    let _rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.snapshot(&new).routing == Routing::all_to(Place::A)).await;
    assert_eq!(stage.fresh().status(&new).await.unwrap().stable, None);
}

#[tokio::test(start_paused = true)]
async fn the_step_is_told_and_since_when_it_is_paused() {
    let stage = Stage::new();
    let strategy = BlueGreen::new().bake(SECOND * 60);
    let (rollout, before) = begun(&stage, &strategy, &Routing::all_to(Place::B)).await;
    rollout.pause("ann");
    tokio::time::sleep(SECOND).await;
    let after = stage.fresh().status(&stage.web).await.unwrap();
    assert_eq!(before.step.map(|step| step.name).as_deref(), Some("soak"));
    assert_eq!((before.paused.is_some(), after.paused.is_some()), (false, true));
}

/// A deployer with a name of its own.
fn of(stage: &Stage, tap: &Tap, name: &str) -> Deployer {
    let world = &stage.world;
    Deployer::builder()
        .registry(world.registry())
        .orchestrator(tap.wrap(world.orchestrator()))
        .balancer(tap.wrap(world.balancer()))
        .store(tap.wrap(stage.store.clone()))
        .clock(world.clock())
        .owner(name)
        .build()
}

#[tokio::test(start_paused = true)]
async fn an_orphan_that_is_to_go_on_is_superseded_by_a_deployer_without_its_gates() {
    let stage = Stage::new();
    let ann = Tap::new();
    let plan = stage.plan(&careful().on_orphan(OnOrphan::Continue), "web:2").await;
    let _dies = stage.deployer(&ann).deploy(plan).await.unwrap();
    stage.until(|world| world.snapshot(&stage.web).routing.weight(Place::B) == half()).await;
    stage.orphan(&ann).await;
    let poor = of(&stage, &Tap::new(), "bob");
    poor.supersede(&stage.web, &Change::to("web:3"), SECOND * 600).await.unwrap();
    assert_eq!(stage.whole(), Ok(Place::A));
    stage.world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_was_taken_over_says_by_whom() {
    let stage = Stage::new();
    let strategy = BlueGreen::new().bake(SECOND * 600);
    let (_hangs, _) = begun(&stage, &strategy, &Routing::all_to(Place::B)).await;
    let bob = of(&stage, &Tap::new(), "bob");
    let report = bob.take_over(&stage.web).await.unwrap().unwrap().await.unwrap();
    assert!(report.why.as_ref().is_some_and(|why| why.contains("bob")), "{report}");
}

#[tokio::test(start_paused = true)]
async fn who_finds_it_open_is_told_who_took_it_up_last() {
    let stage = Stage::new();
    let (ann, bob) = (Tap::new(), Tap::new());
    let strategy = BlueGreen::new().bake(SECOND * 600).on_orphan(OnOrphan::Continue);
    let plan = stage.plan(&strategy, "web:2").await;
    let _dies = of(&stage, &ann, "ann").deploy(plan).await.unwrap();
    stage.until(|world| world.snapshot(&stage.web).routing == Routing::all_to(Place::B)).await;
    stage.orphan(&ann).await;
    let _goes_on = of(&stage, &bob, "bob").recover(&stage.web).await.unwrap().unwrap();
    tokio::time::sleep(SECOND).await;
    let busy = stage.fresh().plan(&stage.web, &strategy, Change::to("web:3")).await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Conflict);
    assert!(busy.to_string().contains("bob"), "{busy}");
}
