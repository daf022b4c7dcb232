//! A bad version comes, and nobody has told the deployer.

use std::time::Duration;

use deploykit::{BlueGreen, Outcome, Place, Report, Weight};

use super::see::*;
use super::stage::{Stage, Version};

/// Deploys a version that has to be rolled back, with no request lost and everything as it began; says what came of it.
async fn rolled_back<S: Stage>(stage: &S, version: Version, strategy: &BlueGreen) -> Report {
    let before = serving(stage).await;
    let (report, tally) = under_load(stage, async || deploy(stage, version, strategy).await).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert_lossless(&tally);
    assert_eq!(seen(stage).await, before, "{report}");
    report
}

pub(crate) async fn a_version_that_crashes_is_rolled_back_by_itself<S: Stage>(stage: &S) {
    let report = rolled_back(stage, Version::Crash, &careful().healthy_within(LONG)).await;
    assert!(report.duration() < LONG, "it waits for what has crashed: {report}");
    let why = report.why.unwrap();
    assert!(why.contains("exited with code 3"), "{why}");
}

pub(crate) async fn a_version_that_is_never_ready_is_rolled_back_by_itself<S: Stage>(stage: &S) {
    let strategy = careful().healthy_within(Duration::from_secs(2));
    let report = rolled_back(stage, Version::Unhealthy, &strategy).await;
    let why = report.why.unwrap();
    assert!(why.contains("place B is not healthy in time: 0 of 2 healthy"), "{why}");
}

pub(crate) async fn a_version_that_is_too_slow_for_its_gate_is_rolled_back_by_itself<S: Stage>(
    stage: &S,
) {
    let report = rolled_back(stage, Version::Slow, &careful()).await;
    let why = report.why.unwrap();
    assert!(why.contains("gate smoke"), "{why}");
}

pub(crate) async fn a_version_that_nobody_can_judge_is_rolled_back_by_itself<S: Stage>(stage: &S) {
    let mut silent = often("switch");
    // It may say nothing for as long as it is waited for.
    silent.judge = silent.judge.with_inconclusive_limit(1_000).with_deadline(SHORT * 2);
    stage.basics().switch.know_nothing();
    let strategy = plain().watch([silent]).bake(SHORT);
    let report = rolled_back(stage, Version::Better, &strategy).await;
    let why = report.why.unwrap();
    assert!(why.contains("gate switch"), "{why}");
}

pub(crate) async fn of_a_version_that_errs_under_live_requests_only_its_own_answers_fail<
    S: Stage,
>(
    stage: &S,
) {
    let before = serving(stage).await;
    let strategy = careful().shift_in([Weight::percent(50).unwrap()], LONG);
    let (report, tally) =
        under_load(stage, async || deploy(stage, Version::Errors, &strategy).await).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    // The gate asks as clients do: the old place may answer it until the new one is not healthy any more.
    let why = report.why.unwrap();
    assert!(why.contains("gate live") || why.contains("place B: 0 of 2 healthy"), "{why}");
    assert!(tally.failed > 0, "{tally}");
    assert_eq!(tally.failures_of(Place::B), tally.failed, "{tally}");
    assert_eq!(seen(stage).await, before);
}

pub(crate) async fn a_bad_first_deployment_leaves_nothing<S: Stage>(stage: &S) {
    let before = seen(stage).await;
    let report = first(stage, &stage.basics().service, Version::Crash).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    let after = seen(stage).await;
    assert!(after.is_nothing(), "{after:#?}");
    assert_eq!(after, before);
    // And the next one is a first one again.
    serving(stage).await;
}

pub(crate) async fn a_first_deployment_that_errs_under_live_requests_leaves_nothing<S: Stage>(
    stage: &S,
) {
    let strategy = plain().watch([often("live")]).bake(LONG);
    let report = first_by(stage, &stage.basics().service, Version::Errors, &strategy, 2).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    let after = seen(stage).await;
    assert!(after.is_nothing(), "{after:#?}");
}

pub(crate) async fn a_candidate_that_dies_while_it_bakes_is_not_promoted<S: Stage>(stage: &S) {
    let before = serving(stage).await;
    let mut run = begin(stage, Version::Better, &plain().bake(LONG)).await;
    run.step("soak").await;
    stage.kill_task(Place::B).await;
    let report = run.end().await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    let why = report.why.unwrap();
    assert!(why.contains("place B") && why.contains("137"), "{why}");
    assert_eq!(seen(stage).await, before);
}
