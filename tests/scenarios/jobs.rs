//! Jobs of rollouts: a migration, a test of the image.

use std::time::Duration;

use deploykit::{Job, OnOrphan, Outcome, Place, Point};
use deploykit_testing::Mutation;

use super::orphan::recover;
use super::see::*;
use super::stage::{Doomed, Stage, Version, deployer};

/// Takes a second; the world in memory goes by the image and not by the command.
fn migrate() -> Job {
    Job::new("migrate").with_command(["job", "1000", "0", "done"])
}

fn is_start(change: &Mutation) -> bool {
    matches!(change, Mutation::StartJob(_))
}

pub(crate) async fn a_migration_runs_before_the_new_version_starts_and_leaves_nothing<S: Stage>(
    stage: &S,
) {
    let before = serving(stage).await;
    let plan = plan(stage, Version::Better, &plain()).await.with_job(Point::PreScaleUp, migrate());
    stage.basics().log.clear();
    let (report, tally) = under_load(stage, async || {
        Run::new::<S>(deployer(stage).await.deploy(plan).await.unwrap()).end().await
    })
    .await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_lossless(&tally);
    let changes = stage.basics().log.mutations();
    let at = |is: fn(&Mutation) -> bool| changes.iter().position(is).unwrap();
    assert!(at(is_start) < at(is_launch), "{changes:?}");
    assert_eq!(changes.last(), Some(&Mutation::RemoveJobs));
    let after = seen(stage).await;
    assert!(after.is_only(Place::B, 2));
    assert_eq!(after.made.len(), before.made.len(), "{:?}", after.made);
}

pub(crate) async fn a_job_that_fails_undoes_the_rollout_and_the_report_says_what_it_wrote<
    S: Stage,
>(
    stage: &S,
) {
    let before = serving(stage).await;
    let plan = plan(stage, Version::Crash, &plain()).await;
    let plan = plan.with_job(Point::PreScaleUp, Job::new("smoke"));
    let rollout = deployer(stage).await.deploy(plan).await.unwrap();
    let report = Run::new::<S>(rollout).end().await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    let why = report.why.unwrap();
    assert!(why.contains("smoke at PRE_SCALE_UP: it exited with code 3"), "{why}");
    assert!(why.contains("the configuration of version B is broken"), "{why}");
    assert_eq!(seen(stage).await, before);
}

pub(crate) async fn a_job_whose_deployer_died_is_awaited_by_the_next_which_goes_on<S: Stage>(
    stage: &S,
) {
    let before = serving(stage).await;
    let plan = plan(stage, Version::Better, &plain().on_orphan(OnOrphan::Continue)).await;
    let doomed = Doomed::new(stage).await;
    stage.basics().log.clear();
    let _ = doomed.deploy(plan.with_job(Point::PreScaleUp, migrate())).await.unwrap();
    while stage.basics().log.count(is_start) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    doomed.die().await;
    let report = recover(stage, &deployer(stage).await).await.unwrap().end().await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    let after = seen(stage).await;
    assert!(after.is_only(Place::B, 2));
    assert_eq!(after.made.len(), before.made.len(), "{:?}", after.made);
}
