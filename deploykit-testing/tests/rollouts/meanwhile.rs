//! What somebody else does between a look and what follows it.

use deploykit_core::{
    BlueGreen, Canary, Change, ErrorKind, Outcome, Place, Rolling, Routing, Step,
};
use deploykit_testing::{Behaviour, Fault, Operation, Snapshot};
use tokio::time::sleep;

use crate::stage::{SECOND, Stage, half};

#[tokio::test(start_paused = true)]
async fn requests_that_somebody_sends_to_a_place_while_its_draining_fails_are_not_drained() {
    let stage = Stage::new();
    let plan = stage.plan(&BlueGreen::new(), "web:2").await;
    stage.world.fail(Fault::error(Operation::Drain, ErrorKind::Unavailable).always());
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.count(Operation::Drain) > 2).await;
    let split = Routing::split(Place::B, Place::A, half());
    stage.world.set_routing_by_someone_else(&stage.web, &split);
    stage.world.heal();
    let report = rollout.await.unwrap();
    assert!(report.notes.iter().any(|note| note.contains("somebody else")), "{report}");
    assert_eq!(stage.world.snapshot(&stage.web).places[&Place::A].healthy, 3);
    stage.world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn a_place_without_tasks_gets_no_requests_back_until_it_has_some() {
    let stage = Stage::new();
    let plan = stage.plan(&Canary::steps([(half(), SECOND * 600)]), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.snapshot(&stage.web).routing.weight(Place::B) == half()).await;
    stage.world.fail(Fault::error(Operation::SetRouting, ErrorKind::Unavailable).always());
    let before = stage.world.count(Operation::SetRouting);
    rollout.abort("ann");
    stage.until(|world| world.count(Operation::SetRouting) > before).await;
    stage.world.scale(&stage.web, Place::A, 0).unwrap();
    sleep(SECOND * 5).await;
    stage.world.heal();
    assert_eq!(rollout.await.unwrap().outcome, Outcome::Aborted { by: "ann".into() });
    assert_eq!(stage.whole(), Ok(Place::A));
    stage.world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn a_roll_drains_nothing_when_the_other_tasks_have_died_meanwhile() {
    let stage = Stage::new();
    let traffic = stage.traffic();
    let strategy = Rolling::new().surge(3).unavailable(0).pooled();
    let plan = stage.plan(&strategy, "web:2").await;
    stage.world.fail(Fault::error(Operation::Drain, ErrorKind::Unavailable).always());
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.count(Operation::Drain) > 2).await;
    for _ in 0..3 {
        stage.world.kill_task(&stage.web, Place::B, 0).unwrap();
    }
    stage.world.heal();
    let report = rollout.await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    stage.world.assert_safe();
    drop(traffic);
}

#[tokio::test(start_paused = true)]
async fn what_an_autoscaler_adds_while_the_balancer_is_read_keeps_its_requests() {
    let stage = Stage::new();
    let plan = stage.plan(&BlueGreen::new().bake(SECOND * 60), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.snapshot(&stage.web).routing == Routing::all_to(Place::B)).await;
    stage.world.fail(Fault::delay(Operation::ObserveRouting, SECOND).always());
    for count in 4..9 {
        let reads = stage.world.count(Operation::ObserveRouting);
        stage.until(|world| world.count(Operation::ObserveRouting) > reads).await;
        stage.world.scale(&stage.web, Place::B, count).unwrap();
        sleep(SECOND * 6).await;
    }
    stage.world.heal();
    assert_eq!(rollout.await.unwrap().outcome, Outcome::Promoted);
    assert_eq!(stage.world.snapshot(&stage.web).places[&Place::B].healthy, 8);
    stage.world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn a_good_candidate_makes_room_for_stable_when_it_is_aborted() {
    let stage = Stage::new();
    let change = Change::to("web:2").with_replicas(1);
    let strategy = Rolling::new().surge(3).unavailable(0);
    let plan = stage.fresh().plan(&stage.web, &strategy, change).await.unwrap();
    stage.world.fail(Fault::error(Operation::Stop, ErrorKind::Unavailable).always());
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.count(Operation::Stop) > 0).await;
    stage.world.tune(|settings| settings.room = Some(3));
    rollout.abort("ann");
    stage.world.heal();
    assert_eq!(rollout.await.unwrap().outcome, Outcome::Aborted { by: "ann".into() });
    assert_eq!(stage.whole(), Ok(Place::A));
}

#[tokio::test(start_paused = true)]
async fn tasks_that_answer_do_not_make_way_for_a_stable_of_which_nothing_lived() {
    let stage = Stage::new();
    for _ in 0..3 {
        stage.world.kill_task(&stage.web, Place::A, 0).unwrap();
    }
    let mut plan = stage.plan(&Rolling::new().surge(3).unavailable(0), "web:2").await;
    let pause = Step::Soak { time: SECOND * 600, gates: Vec::new() };
    plan.steps.insert(1, pause);
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    let is_empty = |seen: &Snapshot| seen.places.get(&Place::A).is_none_or(|a| a.tasks == 0);
    stage.until(|world| is_empty(&world.snapshot(&stage.web))).await;
    rollout.abort("ann");
    assert_eq!(rollout.await.unwrap().outcome, Outcome::Aborted { by: "ann".into() });
    assert_eq!(stage.whole(), Ok(Place::A));
    stage.world.assert_safe();
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_removed_again_is_looked_at_right_before() {
    let stage = Stage::new();
    let slow = Behaviour::good().stops_in(SECOND * 5);
    stage.world.image("web:slow", slow).unwrap();
    let plan = stage.plan(&BlueGreen::new().bake(SECOND * 60), "web:slow").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.snapshot(&stage.web).routing == Routing::all_to(Place::B)).await;
    rollout.abort("ann");
    stage.until(|world| world.count(Operation::Retire) == 1).await;
    stage.world.scale(&stage.web, Place::B, 5).unwrap();
    let looks = stage.world.count(Operation::ObserveTasks);
    stage.until(|world| world.count(Operation::ObserveTasks) > looks).await;
    // It was removed, and there are tasks in it: that is not tried again at once.
    sleep(SECOND / 2).await;
    stage.world.set_routing_by_someone_else(&stage.web, &Routing::Pooled);
    let traffic = stage.traffic();
    let report = rollout.await.unwrap();
    assert!(report.to_string().contains("somebody else"), "{report}");
    assert_eq!(traffic.stop().await.failed, 0);
    stage.world.assert_safe();
}
