//! Hooks at every point of a rollout.

use std::time::Duration;

use deploykit::{Outcome, Point, Step, Strategy};

use super::see::*;
use super::stage::{Stage, Version, deployer};
use super::ways::{CANARY, ROLLING, Way};

const BACK: [Point; 2] = [Point::OnUndo, Point::OnUndone];

/// All points on the way to the end.
fn forward() -> Vec<Point> {
    Point::all().filter(|point| !BACK.contains(point)).collect()
}

/// Deploys with a hook at every point that the rollout comes to; how it ended, and where hooks were run.
async fn hooked<S: Stage>(
    stage: &S,
    version: Version,
    strategy: &dyn Strategy,
) -> (Outcome, Vec<Point>) {
    let mut plan = plan(stage, version, strategy).await;
    let is_tested = plan.steps.contains(&Step::OpenTest);
    for point in Point::all() {
        let of_test = [Point::TestTrafficShift, Point::PostTestTrafficShift].contains(&point);
        if is_tested || !of_test {
            plan = plan.with_hook(point, "note", Duration::from_secs(20));
        }
    }
    let report = Run::new::<S>(deployer(stage).await.deploy(plan).await.unwrap()).end().await;
    (report.outcome, stage.basics().notes.take())
}

/// A good version, and one that crashes: hooks are run at these points, in this order.
async fn noted<S: Stage>(stage: &S, strategy: &dyn Strategy, good: &[Point], crash: &[Point]) {
    serving(stage).await;
    let promoted = hooked(stage, Version::Better, strategy).await;
    assert_eq!(promoted, (Outcome::Promoted, good.to_vec()));
    let undone = hooked(stage, Version::Crash, strategy).await;
    assert_eq!(undone, (Outcome::RolledBack, [crash, &BACK].concat()));
}

pub(crate) async fn hooks_run_at_every_point_of_a_blue_green_rollout<S: Stage>(stage: &S) {
    let all = forward();
    // It shifts twice.
    let good = [&all[..7], &all[6..]].concat();
    noted(stage, &careful(), &good, &all[..2]).await;
}

pub(crate) async fn hooks_run_at_every_point_of_a_rolling_update<S: Stage>(stage: &S) {
    let all = forward();
    let begun = [&all[..2], &all[5..7]].concat();
    let good = [&begun, &all[2..3], &all[7..]].concat();
    noted(stage, &ROLLING.quick(), &good, &begun).await;
}

pub(crate) async fn hooks_run_at_every_point_of_a_canary<S: Stage>(stage: &S) {
    let all = forward();
    // It shifts three times.
    let shifts = [Point::ProductionTrafficShift; 2];
    let good = [&all[..3], &all[5..6], &shifts, &all[6..]].concat();
    noted(stage, &CANARY.quick(), &good, &all[..2]).await;
}

pub(crate) async fn a_hook_that_fails_after_the_last_shift_undoes_the_rollout<S: Stage>(stage: &S) {
    let before = serving(stage).await;
    stage.basics().notes.fail_at(Point::PostProductionTrafficShift);
    let ((), tally) = under_load(stage, async || {
        for way in [Way::BlueGreen, ROLLING, CANARY] {
            let (outcome, points) = hooked(stage, Version::Better, &way.quick()).await;
            assert_eq!(outcome, Outcome::RolledBack, "{way:?}");
            assert!(points.ends_with(&BACK), "{way:?}: {points:?}");
            assert_eq!(seen(stage).await.shape(), before.shape(), "{way:?}");
        }
    })
    .await;
    assert_lossless(&tally);
}
