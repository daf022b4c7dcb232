//! Two deployers who both believe that they decide, and recoveries that find another world.

use std::time::Duration;

use deploykit_core::{
    BlueGreen, Change, ErrorKind, OnOrphan, OrchestratorCapability, Outcome, Place, Rollout,
    Routing,
};
use deploykit_testing::{Blow, Fault, Operation, Part, Tap, World};
use tokio::time::sleep;

use crate::stage::{LEASE, SECOND, Stage, careful, half};

/// Whether the routing has been asked to change so often.
fn routed(times: u64) -> impl Fn(&World) -> bool {
    move |world| world.count(Operation::SetRouting) >= times
}

/// A rollout that whoever takes it up goes on with. Its deployer is behind the tap, and its first change of the routing hangs.
async fn hanging(stage: &Stage) -> (Tap, Rollout) {
    let tap = Tap::new();
    let plan = stage.plan(&careful().on_orphan(OnOrphan::Continue), "web:2").await;
    stage.world.fail(Fault::delay(Operation::SetRouting, SECOND * 10));
    let rollout = stage.deployer(&tap).deploy(plan).await.unwrap();
    stage.until(routed(1)).await;
    (tap, rollout)
}

#[tokio::test(start_paused = true)]
async fn a_deployer_that_was_cut_off_longer_than_its_lease_changes_nothing_any_more() {
    let stage = Stage::new();
    let tap = Tap::new();
    let plan = stage.plan(&BlueGreen::new().shift_in([half()], SECOND), "web:2").await;
    stage.world.fail(Fault::error(Operation::SetRouting, ErrorKind::Unavailable));
    let rollout = stage.deployer(&tap).deploy(plan).await.unwrap();
    stage.until(routed(1)).await;
    tap.strike(1, u64::MAX, Blow::Fail(ErrorKind::Unavailable), Part::All);
    sleep(Duration::from_secs(65)).await;
    stage.clean_up().await;
    assert_eq!(stage.whole(), Ok(Place::A));
    tap.heal();
    assert!(rollout.await.is_err());
    sleep(LEASE).await;
    assert_eq!(stage.whole(), Ok(Place::A));
}

#[tokio::test(start_paused = true)]
async fn a_slow_settling_never_removes_what_a_later_rollout_put_into_its_place() {
    let stage = Stage::new();
    stage.world.tune(|s| s.orchestrator = OrchestratorCapability::new().with_places(2));
    let report = stage.deploy(&BlueGreen::new().hold(SECOND), "web:2").await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    sleep(SECOND * 2).await;
    let away = Fault::error(Operation::Retire, ErrorKind::Unavailable);
    stage.world.fail(away.with_delay(SECOND * 10).with_times(8));
    let (old, web) = (stage.fresh(), stage.web.clone());
    let settling = tokio::spawn(async move { old.settle(&web).await });
    sleep(Duration::from_secs(65)).await;
    stage.world.heal();
    let (deployer, change) = (stage.fresh(), Change::to("web:3"));
    let plan = deployer.plan(&stage.web, &careful(), change).await.unwrap();
    if let Ok(rollout) = deployer.deploy(plan).await {
        let _ = rollout.await;
    }
    let _ = settling.await.unwrap();
    assert!(stage.whole().is_ok(), "{}", stage.world.snapshot(&stage.web));
    stage.world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn a_recovered_undo_looks_at_stable_before_it_gets_the_requests_back() {
    let stage = Stage::new();
    let tap = Tap::new();
    let plan = stage.plan(&careful(), "web:2").await;
    let halved = move |seen: &deploykit_testing::Snapshot| seen.routing.weight(Place::B) == half();
    stage.world.fail(Fault::delay(Operation::SetRouting, SECOND * 10).with_condition(halved));
    let rollout = stage.deployer(&tap).deploy(plan).await.unwrap();
    stage.until(routed(1)).await;
    sleep(SECOND / 2).await;
    rollout.abort("bob");
    stage.until(routed(2)).await;
    stage.world.scale(&stage.web, Place::A, 0).unwrap();
    stage.orphan(&tap).await;
    stage.clean_up().await;
    assert_eq!(stage.whole(), Ok(Place::A));
    stage.world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_goes_on_looks_at_the_candidate_before_it_gets_requests() {
    let stage = Stage::new();
    let (tap, _rollout) = hanging(&stage).await;
    stage.world.scale(&stage.web, Place::B, 0).unwrap();
    stage.orphan(&tap).await;
    stage.clean_up().await;
    assert_eq!(stage.whole(), Ok(Place::B));
    stage.world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn an_abort_that_was_written_down_before_a_death_is_not_gone_on_from() {
    let stage = Stage::new();
    let (tap, rollout) = hanging(&stage).await;
    rollout.abort("bob");
    sleep(SECOND).await;
    stage.orphan(&tap).await;
    let before = stage.world.calls().len();
    stage.clean_up().await;
    assert_eq!(stage.whole(), Ok(Place::A));
    let later = stage.world.calls().into_iter().skip(before);
    let forward = later.filter(|c| c.operation == Operation::SetRouting && c.what.contains('B'));
    assert_eq!(forward.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn targets_that_an_autoscaler_registers_while_a_place_is_retired_do_not_stay() {
    let stage = Stage::new();
    let plan = stage.plan(&careful(), "web:2").await;
    stage.world.fail(Fault::delay(Operation::Retire, SECOND * 10));
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    let drained = |world: &World| {
        let seen = world.snapshot(&stage.web);
        seen.routing == Routing::all_to(Place::B) && seen.places[&Place::A].targets == 0
    };
    stage.until(drained).await;
    stage.world.scale(&stage.web, Place::A, 4).unwrap();
    let report = rollout.await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_eq!(stage.whole(), Ok(Place::B));
    stage.world.assert_safe();
}
