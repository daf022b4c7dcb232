//! Somebody steers a rollout: abort, pause, finish.

use std::time::Duration;

use deploykit::{Canary, Outcome, Place, Routing, Step, Strategy, UpdateKind, Weight};
use deploykit_testing::Mutation;

use super::see::*;
use super::stage::{Stage, Version};
use super::ways::{CANARY, ROLLING};

/// Aborts a rollout at each of its steps before the promotion, under load.
async fn aborted_at_each_step<S: Stage>(stage: &S, strategy: &dyn Strategy) {
    let before = serving(stage).await;
    let steps = plan(stage, Version::Better, strategy).await.steps;
    let promotion = steps.iter().position(|step| *step == Step::Promote).unwrap();
    let ((), tally) = under_load(stage, async || {
        for number in 1..=promotion {
            let mut run = begin(stage, Version::Better, strategy).await;
            run.number(number).await;
            run.control().abort("bob");
            let report = run.end().await;
            let by = Outcome::Aborted { by: "bob".to_owned() };
            assert_eq!(report.outcome, by, "at step {number}: {report}");
            assert_eq!(seen(stage).await, before, "at step {number}: {report}");
        }
    })
    .await;
    assert_lossless(&tally);
}

pub(crate) async fn an_abort_at_any_step_before_the_promotion_undoes_all_and_loses_nothing<
    S: Stage,
>(
    stage: &S,
) {
    aborted_at_each_step(stage, &careful()).await;
}

pub(crate) async fn an_abort_at_any_step_of_a_canary_undoes_all_and_loses_nothing<S: Stage>(
    stage: &S,
) {
    aborted_at_each_step(stage, &CANARY.quick()).await;
}

pub(crate) async fn an_abort_after_any_change_of_a_rolling_update_undoes_all_and_loses_nothing<
    S: Stage,
>(
    stage: &S,
) {
    let before = serving(stage).await;
    let log = &stage.basics().log;
    let strategy = ROLLING.quick();
    let mut changes = 0;
    let all = async {
        loop {
            log.clear();
            changes += 1;
            let mut run = begin(stage, Version::Better, &strategy).await;
            let so_many = async {
                while log.count(is_of_a_batch) < changes {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            run.ended_or(so_many).await;
            run.control().abort("bob");
            let report = run.end().await;
            if report.outcome == Outcome::Promoted {
                break;
            }
            let by = Outcome::Aborted { by: "bob".to_owned() };
            assert_eq!(report.outcome, by, "after change {changes}: {report}");
            let shape = seen(stage).await.shape();
            assert_eq!(shape, before.shape(), "after change {changes}: {report}");
        }
    };
    let ((), tally) = under_load(stage, async || within(stage, ROLLING.bounds(2), all).await).await;
    assert_lossless(&tally);
    // Two batches, each of a launch, a change of the routing, a drain, and a stop.
    assert!(changes >= 8, "it was over after {changes} changes");
}

fn is_of_a_batch(mutation: &Mutation) -> bool {
    use Mutation::{Drain, Launch, Routing, Stop};
    matches!(mutation, Launch(..) | Routing(_) | Drain(_) | Stop(_))
}

pub(crate) async fn an_abort_while_it_is_undone_changes_nothing<S: Stage>(stage: &S) {
    let before = serving(stage).await;
    let mut run = begin(stage, Version::Crash, &plain()).await;
    run.until("undoing", |update| matches!(update, UpdateKind::Undoing { .. })).await;
    run.control().abort("bob");
    let report = run.end().await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert_eq!(seen(stage).await, before);
}

pub(crate) async fn a_pause_stops_the_soak_until_it_is_ended<S: Stage>(stage: &S) {
    serving(stage).await;
    let mut run = begin(stage, Version::Better, &plain().bake(SHORT)).await;
    run.step("soak").await;
    run.control().pause("bob");
    run.until("pause", |update| *update == UpdateKind::Paused).await;
    // Several soaks would be over in this time.
    let goes_on = tokio::time::timeout(SHORT * 4, run.step("promote")).await;
    assert!(goes_on.is_err(), "it goes on while it is paused");
    run.control().unpause("bob");
    let report = run.end().await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    let soak = report.steps.iter().find(|step| step.name == "soak").unwrap();
    let took = soak.ended.unwrap().since(soak.began);
    assert!(took >= SHORT * 4, "{took:?}: {report}");
}

pub(crate) async fn a_paused_rollout_can_be_aborted<S: Stage>(stage: &S) {
    let before = serving(stage).await;
    let mut run = begin(stage, Version::Better, &plain().bake(LONG)).await;
    run.step("launch").await;
    run.control().pause("bob");
    run.until("pause", |update| *update == UpdateKind::Paused).await;
    run.control().abort("bob");
    let report = run.end().await;
    assert_eq!(report.outcome, Outcome::Aborted { by: "bob".to_owned() }, "{report}");
    assert_eq!(seen(stage).await, before);
}

pub(crate) async fn finish_now_skips_the_waits<S: Stage>(stage: &S) {
    serving(stage).await;
    let strategy = careful().shift_in([Weight::percent(50).unwrap()], LONG).bake(LONG);
    let mut run = begin(stage, Version::Better, &strategy).await;
    run.step("soak").await;
    run.control().finish_now("bob");
    let report = run.end().await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert!(report.duration() < LONG, "{report}");
    assert!(seen(stage).await.is_only(Place::B, 2));
}

/// A rollout that bakes for an hour under the gate `switch`, which has just passed.
async fn baking<S: Stage>(stage: &S) -> Run {
    let mut switch = often("switch");
    // The next measurement would come much later.
    switch.judge = switch.judge.with_successes(1).with_interval(Duration::from_secs(600));
    let strategy = plain().watch([switch]).bake(LONG);
    let mut run = begin(stage, Version::Better, &strategy).await;
    run.until("measurement", |update| matches!(update, UpdateKind::Measured { .. })).await;
    run
}

pub(crate) async fn finish_now_does_not_promote_past_a_failing_gate<S: Stage>(stage: &S) {
    let before = serving(stage).await;
    let run = baking(stage).await;
    stage.basics().switch.fail();
    run.control().finish_now("bob");
    let report = run.end().await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert!(report.duration() < LONG, "{report}");
    let why = report.why.unwrap();
    assert!(why.contains("gate switch") && why.contains("1 failed"), "{why}");
    assert_eq!(seen(stage).await, before);
}

pub(crate) async fn finish_now_does_not_take_silence_for_a_pass<S: Stage>(stage: &S) {
    serving(stage).await;
    let mut run = baking(stage).await;
    stage.basics().switch.know_nothing();
    run.control().finish_now("bob");
    run.until("silence", |update| {
        matches!(update, UpdateKind::Measured { measurement, .. }
            if measurement.verdict == deploykit::Verdict::Inconclusive)
    })
    .await;
    let goes_on = tokio::time::timeout(SHORT * 4, run.step("promote")).await;
    assert!(goes_on.is_err(), "it was promoted though its gate said nothing");
    assert_eq!(seen(stage).await.routing, Routing::all_to(Place::B));
    run.control().abort("bob");
    let report = run.end().await;
    assert_eq!(report.outcome, Outcome::Aborted { by: "bob".to_owned() }, "{report}");
}

/// A canary at a quarter, which needs an approval in time.
fn approved(within: Duration) -> Canary {
    let quarter = Weight::percent(25).unwrap();
    Canary::steps([(quarter, SHORT)]).approve_at(quarter, within).drain(Duration::from_secs(10))
}

pub(crate) async fn a_canary_goes_on_when_it_is_approved<S: Stage>(stage: &S) {
    serving(stage).await;
    let (report, tally) = under_load(stage, async || {
        let mut run = begin(stage, Version::Better, &approved(LONG)).await;
        run.step("approve").await;
        let quarter = Routing::split(Place::A, Place::B, Weight::percent(25).unwrap());
        assert_eq!(seen(stage).await.routing, quarter);
        run.control().approve("bob");
        run.end().await
    })
    .await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert!(report.to_string().contains("approved by bob"), "{report}");
    assert_lossless(&tally);
    assert!(seen(stage).await.is_only(Place::B, 2));
}

pub(crate) async fn a_canary_that_is_refused_or_not_approved_in_time_is_undone<S: Stage>(
    stage: &S,
) {
    let before = serving(stage).await;
    let ((), tally) = under_load(stage, async || {
        let mut refused = begin(stage, Version::Better, &approved(LONG)).await;
        refused.step("approve").await;
        refused.control().reject("bob", "it is Friday");
        let forgotten = async || begin(stage, Version::Better, &approved(SHORT)).await.end().await;
        let bob = Outcome::Aborted { by: "bob".into() };
        for (report, outcome, why) in [
            (refused.end().await, bob, "it is Friday"),
            (forgotten().await, Outcome::RolledBack, "nobody approved"),
        ] {
            assert_eq!(report.outcome, outcome, "{report}");
            assert!(report.why.unwrap().contains(why));
            assert_eq!(seen(stage).await, before);
        }
    })
    .await;
    assert_lossless(&tally);
}
