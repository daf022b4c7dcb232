//! Requests that were lost.

use deploykit_core::{
    BalancerCapability, BlueGreen, Change, ErrorKind, OrchestratorCapability, Outcome, Place,
    Routing, Weight,
};
use deploykit_testing::{Fault, Operation};
use tokio::time::sleep;

use crate::stage::{LEASE, SECOND, Stage, careful};

/// Three tasks behind a balancer in which a change shows after 20 s.
fn lagging() -> Stage {
    let stage = Stage::new();
    stage.world.tune(|settings| {
        settings.routing_lag = SECOND * 20;
        settings.balancer = BalancerCapability::all().with_lag(SECOND * 20);
    });
    stage
}

#[tokio::test(start_paused = true)]
async fn a_stable_is_not_scaled_down_while_the_balancer_still_sends_it_requests() {
    let stage = lagging();
    let traffic = stage.traffic();
    let plan = stage.plan(&BlueGreen::new(), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    // From the shift on the balancer asks to be called less often, whatever it is asked.
    stage.until(|world| world.count(Operation::SetRouting) > 0).await;
    for operation in [Operation::ObserveRouting, Operation::SetRouting, Operation::Drain] {
        stage.world.fail(Fault::error(operation, ErrorKind::Throttled).with_times(5));
    }
    let report = rollout.await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    let calls = stage.world.calls();
    let first = |operation| calls.iter().find(|call| call.operation == operation).unwrap().at;
    let waited = first(Operation::Drain) - first(Operation::SetRouting);
    assert!(waited >= SECOND * 20, "{waited:?}");
    assert_eq!(stage.whole(), Ok(Place::B));
    let tally = traffic.stop().await;
    assert_eq!(tally.failed, 0, "{tally}");
    stage.world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn the_time_to_drain_an_undone_candidate_begins_when_its_requests_have_left() {
    let stage = lagging();
    let traffic = stage.traffic();
    // Its requests take 2 s, and the balancer sends it more for 20 s after the abort.
    let plan = stage.plan(&BlueGreen::new().bake(SECOND * 600).drain(SECOND * 5), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.snapshot(&stage.web).routing == Routing::all_to(Place::B)).await;
    sleep(SECOND * 30).await;
    rollout.abort("bob");
    let report = rollout.await.unwrap();
    assert_eq!(report.outcome, Outcome::Aborted { by: "bob".to_owned() }, "{report}");
    let tally = traffic.stop().await;
    assert_eq!(tally.failed, 0, "{tally}");
    assert!(report.notes.is_empty(), "{report}");
    assert_eq!(stage.whole(), Ok(Place::A));
    stage.world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn a_stable_is_not_scaled_down_while_tasks_of_the_candidate_are_missing() {
    let stage = Stage::new();
    let traffic = stage.traffic();
    let plan = stage.plan(&BlueGreen::new(), "web:2").await;
    // The shift takes effect late, and two of three tasks go meanwhile.
    stage.world.fail(Fault::delay(Operation::SetRouting, SECOND * 5));
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.count(Operation::SetRouting) > 0).await;
    stage.world.scale(&stage.web, Place::B, 1).unwrap();
    stage.until(|world| world.count(Operation::Retire) > 0).await;
    let seen = stage.world.snapshot(&stage.web);
    assert_eq!(seen.places[&Place::B].healthy, 3, "{seen}");
    assert_eq!(rollout.await.unwrap().outcome, Outcome::Promoted);
    let tally = traffic.stop().await;
    assert_eq!(tally.failed, 0, "{tally}");
}

#[tokio::test(start_paused = true)]
async fn a_healthy_candidate_is_not_removed_for_a_stable_that_cannot_serve() {
    let stage = Stage::new();
    let traffic = stage.traffic();
    let plan = stage.plan(&BlueGreen::new().bake(SECOND * 600), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.snapshot(&stage.web).routing == Routing::all_to(Place::B)).await;
    sleep(SECOND * 5).await;
    stage.world.scale(&stage.web, Place::A, 0).unwrap();
    stage.world.fail(Fault::error(Operation::Launch, ErrorKind::Denied).always());
    rollout.abort("bob");
    let report = rollout.await.unwrap();
    assert_eq!(report.outcome, Outcome::NeedsOperator, "{report}");
    sleep(SECOND * 60).await;
    let seen = stage.world.snapshot(&stage.web);
    assert_eq!(seen.routing, Routing::all_to(Place::B));
    assert_eq!(seen.places[&Place::B].healthy, 3, "{seen}");
    // And once stable can be started again, the undoing is.
    stage.world.heal();
    stage.clean_up().await;
    assert_eq!(stage.whole(), Ok(Place::A));
    let tally = traffic.stop().await;
    assert_eq!(tally.failed, 0, "{tally}");
}

#[tokio::test(start_paused = true)]
async fn requests_do_not_return_to_a_stable_that_was_scaled_down_before_it_is_whole_again() {
    let stage = Stage::new();
    let traffic = stage.traffic();
    let plan = stage.plan(&BlueGreen::new().bake(SECOND * 600), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.snapshot(&stage.web).routing == Routing::all_to(Place::B)).await;
    sleep(SECOND * 5).await;
    // An autoscaler finds that stable has nothing to do.
    stage.world.scale(&stage.web, Place::A, 1).unwrap();
    sleep(SECOND).await;
    rollout.abort("bob");
    stage.until(|world| world.snapshot(&stage.web).routing == Routing::all_to(Place::A)).await;
    let seen = stage.world.snapshot(&stage.web);
    assert_eq!(seen.places[&Place::A].healthy, 3, "{seen}");
    let _ = rollout.await.unwrap();
    let tally = traffic.stop().await;
    assert_eq!(tally.failed, 0, "{tally}");
    stage.world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn a_place_that_carries_requests_is_not_removed_to_make_room() {
    let stage = Stage::new();
    stage.world.tune(|s| s.orchestrator = OrchestratorCapability::new().with_places(2));
    let traffic = stage.traffic();
    let report = stage.deploy(&careful().hold(SECOND * 86_400), "web:2").await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    let fifth = Weight::percent(20).unwrap();
    stage.world.set_routing_by_someone_else(&stage.web, &Routing::split(Place::B, Place::A, fifth));
    let refused = stage.fresh().settle_now(&stage.web).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Foreign, "{refused}");
    // Where there are two places only, the held one is in the way of the next version.
    let change = Change::to("web:3");
    let refused = stage.fresh().plan(&stage.web, &careful(), change).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Foreign, "{refused}");
    let seen = stage.world.snapshot(&stage.web);
    assert_eq!(seen.places[&Place::A].healthy, 3, "{seen}");
    sleep(LEASE).await;
    let tally = traffic.stop().await;
    assert_eq!(tally.failed, 0, "{tally}");
}
