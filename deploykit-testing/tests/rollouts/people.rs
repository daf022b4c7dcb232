//! What people do, and what they ask for.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deploykit_core::{
    Approval, ApprovalRequest, Approver, BalancerCapability, BlueGreen, Canary, Change, ErrorKind,
    ImageRef, Launch, Measurement, OnOrphan, Orchestrator, OrchestratorCapability, Outcome, Place,
    Plan, Registry, Release, Result, Rolling, RolloutId, Routing, ServiceSpec, Step, gate_fn,
};
use deploykit_testing::{Blow, Fault, Operation, Part, Tap};
use tokio::time::{sleep, timeout};

use crate::stage::{LEASE, PATIENCE, SECOND, Stage, careful, half};

#[tokio::test(start_paused = true)]
async fn a_measurement_without_result_within_the_limit_does_not_end_a_long_soak() {
    let stage = Stage::new();
    let asked = Arc::new(AtomicU64::new(0));
    let gate = gate_fn(move |_| {
        let blip = asked.fetch_add(1, Ordering::SeqCst) == 300;
        async move {
            Ok(if blip { Measurement::inconclusive("a blip") } else { Measurement::pass("good") })
        }
    });
    let deployer = stage.world.deployer().gate("g", gate).build();
    let soak = BlueGreen::new().watch(["g"]).bake(SECOND * 600);
    let rollout = deployer.rollout(&stage.web, &soak, Change::to("web:2")).await.unwrap();
    let report = rollout.await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_while_tasks_are_launched_does_not_launch_them_twice() {
    let stage = Stage::new();
    stage.world.fail(Fault::delay(Operation::Launch, SECOND * 5));
    stage.world.fail(Fault::delay(Operation::Launch, SECOND * 12));
    let plan = stage.plan(&careful(), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    sleep(SECOND * 4).await;
    rollout.pause("bob");
    sleep(SECOND / 2).await;
    rollout.abort("bob");
    let _ = rollout.await.unwrap();
    sleep(LEASE).await;
    assert_eq!(stage.whole(), Ok(Place::A));
    assert_eq!(stage.world.count(Operation::Launch), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pause_after_the_promotion_that_nobody_ends_does_not_last_for_ever() {
    let stage = Stage::new();
    stage.world.fail(Fault::delay(Operation::Retire, SECOND * 5));
    let plan = stage.plan(&careful(), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.count(Operation::Retire) > 0).await;
    rollout.pause("bob");
    let report = timeout(PATIENCE, rollout.into_future()).await.unwrap().unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
}

#[tokio::test(start_paused = true)]
async fn tasks_that_somebody_else_put_into_the_candidates_place_are_left_alone() {
    let stage = Stage::new();
    let plan = stage.plan(&careful(), "web:2").await;
    let parts = stage.world.orchestrator();
    let image = ImageRef::parse("web:3").unwrap();
    let image = stage.world.registry().resolve(&image).await.unwrap();
    let release = Release::new(image, ServiceSpec::http(8080, "/health"));
    let revision = parts.register(&stage.web, &release).await.unwrap();
    let (service, rollout) = (stage.web.clone(), RolloutId::new("by-hand"));
    let launch = Launch { service, place: Place::B, revision, count: 2, rollout };
    parts.launch(&launch).await.unwrap();
    sleep(SECOND * 5).await;
    let before = stage.world.snapshot(&stage.web);
    if let Ok(rollout) = stage.fresh().deploy(plan).await {
        let report = rollout.await.unwrap();
        assert_ne!(report.outcome, Outcome::Promoted, "{report}");
    }
    assert_eq!(stage.world.snapshot(&stage.web), before);
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_cannot_drain_does_not_cut_requests() {
    let stage = Stage::new();
    let traffic = stage.traffic();
    stage.world.fail(Fault::error(Operation::Drain, ErrorKind::Denied).always());
    let plan = stage.plan(&careful().bake(SECOND * 30), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    sleep(SECOND * 15).await;
    rollout.abort("bob");
    let _ = rollout.await.unwrap();
    stage.world.heal();
    stage.clean_up().await;
    let tally = traffic.stop().await;
    assert_eq!(tally.failed, 0, "{tally}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_costs_the_requests_that_are_drained_none_of_their_time() {
    let stage = Stage::new();
    let traffic = stage.traffic();
    let tap = Tap::new();
    tap.strike(1, u64::MAX, Blow::Slow(SECOND * 8), Part::Store);
    let plan = stage.plan(&Rolling::new().drain(SECOND * 5), "web:2").await;
    let report = stage.deployer(&tap).deploy(plan).await.unwrap().await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    let tally = traffic.stop().await;
    assert_eq!(tally.failed, 0, "{tally}");
}

#[tokio::test(start_paused = true)]
async fn a_place_that_somebody_scales_while_it_is_removed_goes_all_the_same() {
    let stage = Stage::new();
    let plan = stage.plan(&careful(), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.count(Operation::Retire) > 0).await;
    stage.world.scale(&stage.web, Place::A, 2).unwrap();
    let report = rollout.await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_eq!(stage.whole(), Ok(Place::B));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_when_what_the_dead_left_takes_longer_than_he_waits() {
    let (stage, tap) = (Stage::new(), Tap::new());
    let plan = stage.plan(&careful().bake(SECOND * 3_600), "web:2").await;
    let plan = plan.with_on_orphan(OnOrphan::Continue);
    drop(stage.deployer(&tap).deploy(plan).await.unwrap());
    stage.until(|world| world.snapshot(&stage.web).routing == Routing::all_to(Place::B)).await;
    stage.orphan(&tap).await;
    let waited = stage.fresh().wait_for_end(&stage.web, SECOND * 60).await;
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_throttles_the_draining_costs_the_requests_none_of_their_time() {
    let stage = Stage::new();
    let traffic = stage.traffic();
    let throttled = Fault::error(Operation::Drain, ErrorKind::Throttled);
    stage.world.fail(throttled.with_times(20));
    let report = stage.deploy(&Rolling::new().drain(SECOND * 20), "web:2").await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    let tally = traffic.stop().await;
    assert_eq!(tally.failed, 0, "{tally}");
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_to_be_removed_can_still_be_rolled_back_to_or_is_not_held() {
    let stage = Stage::new();
    let held = stage.deploy(&BlueGreen::new().hold(SECOND * 86_400), "web:2").await;
    assert_eq!(held.outcome, Outcome::Promoted, "{held}");
    let plan = stage.plan(&careful(), "web:3").await;
    stage.world.fail(Fault::delay(Operation::RemoveTargets, SECOND * 5));
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    sleep(SECOND).await;
    rollout.abort("bob");
    let _ = rollout.await.unwrap();
    let back = stage.fresh().rollback(&stage.web, &careful()).await.unwrap().await.unwrap();
    assert_eq!(back.outcome, Outcome::Promoted, "{back}");
}

#[tokio::test(start_paused = true)]
async fn a_place_goes_on_being_held_as_long_as_was_said_after_an_undone_rollback() {
    let stage = Stage::new();
    let held = stage.deploy(&BlueGreen::new().hold(SECOND * 86_400), "web:2").await;
    assert_eq!(held.outcome, Outcome::Promoted, "{held}");
    stage.world.fail(Fault::delay(Operation::SetRouting, SECOND * 5));
    let rollout = stage.fresh().rollback(&stage.web, &careful()).await.unwrap();
    sleep(SECOND).await;
    rollout.abort("bob");
    let _ = rollout.await.unwrap();
    assert_eq!(stage.fresh().settle(&stage.web).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_by_hours_neither_fails_a_rollout_nor_makes_it_last() {
    for hours in [-3, 3] {
        for back in [false, true] {
            for at in [100, 400, 800, 1_500, 2_500, 3_500] {
                let what = format!("{hours} h at {at} ms, back again: {back}");
                let stage = Stage::new();
                let plan = stage.plan(&careful(), "web:2").await;
                let began = stage.world.now();
                let rollout = stage.fresh().deploy(plan).await.unwrap();
                sleep(Duration::from_millis(at)).await;
                stage.world.set_clock_off(hours * 3_600_000);
                if back {
                    sleep(SECOND / 3).await;
                    stage.world.set_clock_off(-hours * 3_600_000);
                }
                let report = rollout.await.unwrap();
                assert_eq!(report.outcome, Outcome::Promoted, "{what}: {report}");
                let took = stage.world.now() - began;
                assert!(took < Duration::from_secs(60), "{what}: {took:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_can_be_held_for_ever() {
    let stage = Stage::new();
    let report = stage.deploy(&BlueGreen::new().hold(Duration::MAX), "web:2").await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    let next = stage.deploy(&careful(), "web:3").await;
    assert_eq!(next.outcome, Outcome::Promoted, "{next}");
}

#[tokio::test(start_paused = true)]
async fn plans_with_absurd_numbers_are_shown_and_checked_without_a_panic() {
    let stage = Stage::new();
    let sane = stage.plan(&careful(), "web:2").await;
    let judged = |successes, time| {
        let mut plan = sane.clone();
        for step in &mut plan.steps {
            if let Step::Validate { gates } = step {
                for gate in gates {
                    gate.judge.successes = successes;
                    (gate.judge.interval, gate.judge.deadline) = (time, time);
                }
            }
        }
        plan
    };
    let many = |change: fn(&mut Plan)| {
        let mut plan = sane.clone();
        change(&mut plan);
        plan
    };
    let plans = [
        judged(0, SECOND),
        judged(u32::MAX, Duration::MAX),
        many(|plan| plan.replicas = Some(u32::MAX)),
        many(|plan| plan.world.desired = u32::MAX),
    ];
    for plan in plans {
        let _ = (plan.to_string(), plan.estimate());
        let balancer = Some(BalancerCapability::all());
        let _ = plan.check(OrchestratorCapability::new(), balancer);
    }
}

#[tokio::test(start_paused = true)]
async fn finish_now_over_ten_thousand_soaks_ends_them_all() {
    let stage = Stage::new();
    let mut plan = stage.plan(&BlueGreen::new(), "web:2").await;
    let promote = plan.steps.iter().position(|step| *step == Step::Promote).unwrap();
    let soak = Step::Soak { time: SECOND * 60, gates: Vec::new() };
    plan.steps.splice(promote..promote, std::iter::repeat_n(soak, 9_900));
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    sleep(SECOND).await;
    rollout.finish_now("bob");
    let report = rollout.await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert!(report.duration() < SECOND * 60, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_emptied_while_the_routing_to_it_does_not_show_gets_no_requests() {
    let stage = Stage::new();
    stage.world.tune(|settings| {
        settings.routing_lag = SECOND * 20;
        settings.balancer = BalancerCapability::all().with_lag(SECOND * 20);
    });
    let traffic = stage.traffic();
    let plan = stage.plan(&BlueGreen::new(), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.count(Operation::SetRouting) > 0).await;
    stage.world.set_routing_by_someone_else(&stage.web, &Routing::all_to(Place::A));
    stage.world.scale(&stage.web, Place::B, 0).unwrap();
    let report = rollout.await.unwrap();
    let tally = traffic.stop().await;
    assert_eq!((report.outcome, tally.failed), (Outcome::RolledBack, 0), "{tally}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_leaves_no_task_for_a_while_says_that_requests_fail() {
    let stage = Stage::new();
    let only = stage.world.already_runs("only", "web:1", 1).unwrap();
    for (strategy, fail) in [(Rolling::stop_first(), true), (Rolling::start_first(), false)] {
        let plan = stage.fresh().plan(&only, &strategy, Change::to("web:2")).await.unwrap();
        assert_eq!(plan.to_string().contains("requests fail"), fail, "{plan}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_somebody_turned_back_by_hand_is_not_planned_as_if_he_had_not() {
    let stage = Stage::new();
    let strategy = BlueGreen::new().hold(SECOND * 86_400);
    let _ = stage.deploy(&strategy, "web:2").await;
    stage.world.set_routing_by_someone_else(&stage.web, &Routing::all_to(Place::A));
    stage.world.scale(&stage.web, Place::B, 0).unwrap();
    sleep(SECOND * 60).await;
    let change = Change::to("web:3");
    let refused = stage.fresh().plan(&stage.web, &strategy, change.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Foreign);
    // As its hint says.
    let back = stage.fresh().rollback(&stage.web, &strategy).await.unwrap().await.unwrap();
    assert_eq!(back.outcome, Outcome::Promoted, "{back}");
    let rollout = stage.fresh().rollout(&stage.web, &strategy, change).await.unwrap();
    assert_eq!(rollout.await.unwrap().outcome, Outcome::Promoted);
    stage.world.assert_safe();
}

/// Written by hand, so that it panics before there is anything to await.
#[derive(Debug)]
struct Panics;

impl Approver for Panics {
    fn ask<'a, 'b, 'c>(
        &'a self,
        _: &'b ApprovalRequest,
    ) -> Pin<Box<dyn Future<Output = Result<Approval>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        panic!("on purpose")
    }
}

#[tokio::test(start_paused = true)]
async fn an_approver_that_panics_at_once_undoes_the_rollout() {
    let stage = Stage::new();
    let deployer =
        stage.world.deployer().store(stage.store.clone()).approver("ann", Panics).build();
    let strategy = Canary::steps([(half(), SECOND)]).approve_at_by(half(), "ann", SECOND * 60);
    let rollout = deployer.rollout(&stage.web, &strategy, Change::to("web:2")).await.unwrap();
    assert_eq!(rollout.await.unwrap().outcome, Outcome::RolledBack);
    assert_eq!(stage.whole(), Ok(Place::A));
}
