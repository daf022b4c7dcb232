//! A service that takes its work from elsewhere: no balancer, no requests, and the same promises.

use std::time::Duration;

use deploykit::{BlueGreen, Change, Outcome, Place, Rolling, Strategy};

use super::see::*;
use super::stage::{Stage, Version, deployer};
use super::ways::CANARY;

/// How workers can be replaced, with the fewest that are ready and the most that live while three are.
fn strategies() -> [(Box<dyn Strategy>, (usize, usize)); 3] {
    let roll = |rolling: Rolling| {
        let rolling = rolling.min_ready(SHORT).watch([often("switch")]);
        Box::new(rolling.healthy_within(Duration::from_secs(20)))
    };
    let at_once = BlueGreen::new().watch([often("switch")]).bake(SHORT);
    [
        (Box::new(at_once.healthy_within(Duration::from_secs(20))), (3, 6)),
        (roll(Rolling::start_first()), (3, 4)),
        (roll(Rolling::stop_first()), (2, 3)),
    ]
}

pub(crate) async fn a_worker_is_replaced_within_its_bounds<S: Stage>(stage: &S) {
    serving_by(stage, 3).await;
    for ((strategy, bounds), version) in
        strategies().into_iter().zip([Version::Better, Version::Good, Version::Better])
    {
        let report = within(stage, bounds, promoted(stage, version, &strategy)).await;
        let seen = seen(stage).await;
        assert!(seen.is_only(report.candidate, 3), "{report}: {seen:#?}");
    }
}

pub(crate) async fn a_worker_that_crashes_is_undone_within_its_bounds<S: Stage>(stage: &S) {
    let before = serving_by(stage, 3).await;
    for (strategy, bounds) in strategies() {
        let report = within(stage, bounds, deploy(stage, Version::Crash, &strategy)).await;
        assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
        assert!(report.why.as_ref().unwrap().contains("exited with code 3"), "{report}");
        assert_eq!(seen(stage).await.shape(), before.shape(), "{report}");
    }
}

pub(crate) async fn a_worker_that_fails_its_gate_is_undone_within_its_bounds<S: Stage>(stage: &S) {
    let before = serving_by(stage, 3).await;
    stage.basics().switch.fail();
    for (strategy, bounds) in strategies() {
        let report = within(stage, bounds, deploy(stage, Version::Better, &strategy)).await;
        assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
        assert!(report.why.as_ref().unwrap().contains("gate switch"), "{report}");
        assert_eq!(seen(stage).await.shape(), before.shape(), "{report}");
    }
}

pub(crate) async fn a_bad_first_worker_leaves_nothing<S: Stage>(stage: &S) {
    for (strategy, _) in strategies() {
        let service = &stage.basics().service;
        let report = first_by(stage, service, Version::Crash, &strategy, 3).await;
        assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
        let seen = seen(stage).await;
        assert!(seen.is_nothing() && seen.made.is_empty(), "{seen:#?}");
    }
}

pub(crate) async fn a_worker_is_rolled_back<S: Stage>(stage: &S) {
    let before = serving_by(stage, 3).await;
    for (strategy, bounds) in strategies() {
        let better = promoted(stage, Version::Better, &strategy).await;
        let deployer = deployer(stage).await;
        let rollout = deployer.rollback(&stage.basics().service, &strategy).await.unwrap();
        let report = within(stage, bounds, Run::new::<S>(rollout).end()).await;
        assert_eq!(report.outcome, Outcome::Promoted, "{report}");
        assert_ne!(report.candidate, better.candidate, "{report}");
        let seen = seen(stage).await;
        assert!(seen.is_only(report.candidate, 3), "{seen:#?}");
        assert_eq!(seen.places[0].revision, before.places[0].revision);
    }
}

pub(crate) async fn a_canary_of_a_worker_is_refused_with_what_to_do_instead<S: Stage>(stage: &S) {
    serving_by(stage, 3).await;
    let deployer = deployer(stage).await;
    let change = Change::to(stage.image(Version::Better));
    let canary = CANARY.quick();
    let error = refused(stage, deployer.plan(&stage.basics().service, &canary, change)).await;
    assert!(error.hint().unwrap().contains("roll a worker"), "{error}");
    assert!(seen(stage).await.is_only(Place::A, 3));
}
