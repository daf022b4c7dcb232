//! The deployer dies in the middle, and another one takes up what it left.

use std::time::Duration;

use deploykit::{Deployer, ErrorKind, OnOrphan, Outcome, Place, Plan, Report, Rollout};

use super::see::*;
use super::stage::{Doomed, Stage, Version, bare, deployer};

/// Deploys a plan until a step of this name begins, and dies.
pub(super) async fn die_at<S: Stage>(stage: &S, plan: Plan, step: &str) {
    let doomed = Doomed::new(stage).await;
    let mut run = Run::new::<S>(doomed.deploy(plan).await.unwrap());
    run.step(step).await;
    doomed.die().await;
}

/// Takes up what a dead deployer left, as soon as its lease has ended.
pub(crate) async fn recover<S: Stage>(stage: &S, deployer: &Deployer) -> deploykit::Result<Run> {
    let found = |rollout: Option<Rollout>| Run::new::<S>(rollout.expect("something is open"));
    let wait = async {
        loop {
            match deployer.recover(&stage.basics().service).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                other => return other.map(found),
            }
        }
    };
    tokio::time::timeout(S::PATIENCE, wait).await.expect("the lease of the dead ends")
}

/// The deployer of a plan dies under load when a step of this name begins, and the next one takes up what it left. No request
/// is lost.
async fn taken_up<S: Stage>(stage: &S, plan: Plan, step: &str) -> Report {
    let (report, tally) = under_load(stage, async || {
        die_at(stage, plan, step).await;
        recover(stage, &deployer(stage).await).await.unwrap().end().await
    })
    .await;
    assert_lossless(&tally);
    report
}

pub(crate) async fn a_rollout_whose_deployer_died_is_undone_by_the_next<S: Stage>(stage: &S) {
    let before = serving(stage).await;
    let plan = plan(stage, Version::Better, &careful()).await;
    let report = taken_up(stage, plan, "soak").await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert_eq!(seen(stage).await, before);
}

pub(crate) async fn a_rollout_whose_plan_says_so_goes_on_after_its_deployer_died<S: Stage>(
    stage: &S,
) {
    serving(stage).await;
    let plan = plan(stage, Version::Better, &careful().on_orphan(OnOrphan::Continue)).await;
    let report = taken_up(stage, plan, "soak").await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert!(seen(stage).await.is_only(Place::B, 2));
}

pub(crate) async fn a_promoted_rollout_whose_deployer_died_is_finished<S: Stage>(stage: &S) {
    serving(stage).await;
    let plan = plan(stage, Version::Better, &plain()).await;
    // The slow requests are still being answered, so it drains for a while.
    let report = taken_up(stage, plan, "retire").await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert!(seen(stage).await.is_only(Place::B, 2));
}

pub(crate) async fn undoing_needs_none_of_the_gates<S: Stage>(stage: &S) {
    let before = serving(stage).await;
    die_at(stage, plan(stage, Version::Better, &careful()).await, "soak").await;
    let gateless = bare(stage).await.build();
    let report = recover(stage, &gateless).await.unwrap().end().await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert_eq!(seen(stage).await, before);
}

pub(crate) async fn a_rollout_that_is_to_go_on_needs_its_gates_before_anything_moves<S: Stage>(
    stage: &S,
) {
    serving(stage).await;
    let plan = plan(stage, Version::Better, &careful().on_orphan(OnOrphan::Continue)).await;
    die_at(stage, plan, "soak").await;
    let gateless = bare(stage).await.build();
    let attempt = async { recover(stage, &gateless).await.map(drop) };
    let error = refused(stage, attempt).await;
    assert!(error.message().contains("live"), "{error}");
    // With them it goes on.
    let report = recover(stage, &deployer(stage).await).await.unwrap().end().await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
}

pub(crate) async fn a_service_whose_deployer_died_is_not_deployed_before_it_is_recovered<
    S: Stage,
>(
    stage: &S,
) {
    serving(stage).await;
    die_at(stage, plan(stage, Version::Better, &plain().bake(LONG)).await, "soak").await;
    let deployer = deployer(stage).await;
    let service = &stage.basics().service;
    let change = deploykit::Change::to(stage.image(Version::Better));
    let error = refused(stage, deployer.plan(service, &plain(), change)).await;
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.message().contains("mallory"), "{error}");
    assert!(error.hint().unwrap().contains("recover"), "{error}");
}

pub(crate) async fn a_journal_that_was_cut_short_is_undone_all_the_same<S: Stage>(stage: &S) {
    let before = serving(stage).await;
    die_at(stage, plan(stage, Version::Better, &careful()).await, "soak").await;
    let journal = stage.basics().journal();
    let text = std::fs::read_to_string(&journal).unwrap();
    let last = text.trim_end().lines().last().unwrap().len();
    std::fs::write(&journal, &text[..text.len() - last / 2]).unwrap();
    let report = recover(stage, &deployer(stage).await).await.unwrap().end().await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert_eq!(seen(stage).await, before);
}
