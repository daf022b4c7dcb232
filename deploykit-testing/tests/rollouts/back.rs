//! The way back, and what a plan must not promise.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use deploykit_core::{
    BlueGreen, Change, Context, Draft, Error, ErrorKind, GateUse, Judge, Outcome, Place, Result,
    Rolling, Routing, Strategy, Weight, gate_fn,
};
use deploykit_testing::{Behaviour, Operation};
use tokio::time::sleep;

use crate::stage::{LEASE, SECOND, Stage, careful};

async fn roll_back(stage: &Stage) -> Outcome {
    let rollout = stage.fresh().rollback(&stage.web, &BlueGreen::new()).await.unwrap();
    rollout.await.unwrap().outcome
}

/// The image that serves.
async fn serving(stage: &Stage) -> String {
    let status = stage.fresh().status(&stage.web).await.unwrap();
    status.release.unwrap().image.asked.to_string()
}

#[tokio::test(start_paused = true)]
async fn a_rollback_reaches_what_served_before_the_first_rollout() {
    let stage = Stage::new();
    let _ = stage.deploy(&BlueGreen::new(), "web:2").await;
    assert_eq!(roll_back(&stage).await, Outcome::Promoted);
    assert_eq!(serving(&stage).await, "web:1");
}

#[tokio::test(start_paused = true)]
async fn a_second_rollback_goes_further_back_and_not_forward_to_what_was_bad() {
    let stage = Stage::new();
    let _ = stage.deploy(&BlueGreen::new(), "web:2").await;
    let _ = stage.deploy(&BlueGreen::new(), "web:3").await;
    assert_eq!(roll_back(&stage).await, Outcome::Promoted);
    assert_eq!(serving(&stage).await, "web:2");
    assert_eq!(roll_back(&stage).await, Outcome::Promoted);
    assert_eq!(serving(&stage).await, "web:1");
    let nothing = stage.fresh().plan_rollback(&stage.web, &BlueGreen::new()).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_bad_version_does_not_cost_the_place_that_is_held() {
    let stage = Stage::new();
    let _ = stage.deploy(&careful().hold(SECOND * 3600), "web:2").await;
    let before = stage.world.snapshot(&stage.web);
    stage.world.image("web:3", Behaviour::good().crashes()).unwrap();
    assert_eq!(stage.deploy(&careful(), "web:3").await.outcome, Outcome::RolledBack);
    assert_eq!(stage.world.snapshot(&stage.web), before);
    let starts = stage.world.count(Operation::Launch);
    assert_eq!(roll_back(&stage).await, Outcome::Promoted);
    assert_eq!(
        (serving(&stage).await.as_str(), stage.world.count(Operation::Launch)),
        ("web:1", starts)
    );
}

/// A strategy with these steps.
#[derive(Debug)]
struct Own(Draft);

impl Strategy for Own {
    fn name(&self) -> &str {
        "own"
    }
    fn draft(&self, _: &Context) -> Result<Draft> {
        Ok(self.0.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_sends_more_requests_than_it_launches_tasks_for_is_refused() {
    let stage = Stage::new();
    let few = Draft::new().launch(Weight::percent(10).unwrap()).await_healthy(SECOND);
    let own = Own(few.shift(Weight::ALL).promote().retire(SECOND));
    let error = stage.fresh().plan(&stage.web, &own, Change::to("web:2")).await.unwrap_err();
    assert!(error.message().contains("share of tasks"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_strategy_without_steps_is_refused_and_not_taken_for_nothing_to_do() {
    let stage = Stage::new();
    let own = Own(Draft::new());
    let error = stage.fresh().plan(&stage.web, &own, Change::to("web:2")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_routing_that_somebody_sets_while_a_candidate_bakes_ends_the_bake() {
    let stage = Stage::new();
    let plan = stage.plan(&careful().bake(SECOND * 600), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.snapshot(&stage.web).routing == Routing::all_to(Place::B)).await;
    sleep(SECOND * 5).await;
    stage.world.set_routing_by_someone_else(&stage.web, &Routing::all_to(Place::A));
    let report = rollout.await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert!(report.why.unwrap().contains("somebody else"));
    assert_eq!(stage.whole(), Ok(Place::A));
}

#[tokio::test(start_paused = true)]
async fn a_stable_that_loses_tasks_while_it_is_awaited_gets_new_ones() {
    let stage = Stage::new();
    let traffic = stage.traffic();
    sleep(SECOND * 3).await;
    let plan = stage.plan(&careful().bake(SECOND * 600), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.count(Operation::SetRouting) >= 1).await;
    stage.world.scale(&stage.web, Place::A, 1).unwrap();
    rollout.abort("bob");
    let report = rollout.await.unwrap();
    drop(traffic);
    sleep(LEASE).await;
    assert_eq!(report.outcome, Outcome::Aborted { by: "bob".to_owned() }, "{report}");
    assert_eq!(stage.whole(), Ok(Place::A));
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_is_set_up_wrongly_fails_at_once_and_says_why() {
    let patient = Judge::new().with_inconclusive_limit(1_000).with_deadline(600 * SECOND);
    let gate = GateUse::new("wrong").with_judge(patient);
    let strategies = [
        BlueGreen::new().validate([gate.clone()]),
        BlueGreen::new().watch([gate]).bake(600 * SECOND),
    ];
    for strategy in strategies {
        let stage = Stage::new();
        let measured = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&measured);
        let wrong = gate_fn(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Err(Error::invalid("no such metric")) }
        });
        let deployer = stage.world.deployer().gate("wrong", wrong).build();
        let plan = deployer.plan(&stage.web, &strategy, Change::to("web:2")).await.unwrap();
        let report = deployer.deploy(plan).await.unwrap().await.unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
        assert_eq!(report.why.as_deref(), Some("gate wrong: no such metric"));
        assert_eq!(measured.load(Ordering::Relaxed), 1);
        assert!(stage.world.violations().is_empty(), "{:?}", stage.world.violations());
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_stable_lacked_gets_requests_again_when_it_comes_back_late() {
    let stage = Stage::new();
    stage.world.image("slow:1", Behaviour::good().starts_in(SECOND * 10)).unwrap();
    let slow = stage.world.already_runs("slow", "slow:1", 3).unwrap();
    let roll = Rolling::stop_first().min_ready(SECOND * 3_600);
    let plan = stage.fresh().plan(&slow, &roll, Change::to("web:2")).await.unwrap();
    let _ = stage.world.kill_task(&slow, Place::A, 0).unwrap();
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.count(Operation::Stop) >= 1).await;
    rollout.abort("bob");
    assert_eq!(rollout.await.unwrap().outcome, Outcome::Aborted { by: "bob".to_owned() });
    let there = stage.world.snapshot(&slow);
    assert_eq!(there.places[&Place::A].healthy, 3, "{there}");
}
