//! What was deployed is deployed again, rolled back, or kept for a while.

use deploykit::{Change, Outcome, Place, Routing};

use super::see::*;
use super::stage::{Stage, Version, deployer};

pub(crate) async fn what_already_runs_is_left_alone<S: Stage>(stage: &S) {
    let before = serving(stage).await;
    let report = deploy(stage, Version::Good, &plain()).await;
    assert_eq!((report.rollout.as_ref(), &report.outcome), (None, &Outcome::Promoted), "{report}");
    assert!(report.to_string().contains("already runs"), "{report}");
    assert_eq!(seen(stage).await, before);
    assert_eq!(stage.basics().log.mutations(), []);
}

pub(crate) async fn what_already_runs_is_deployed_when_that_is_forced<S: Stage>(stage: &S) {
    serving(stage).await;
    let change = Change::to(stage.image(Version::Good)).forced();
    let deployer = deployer(stage).await;
    let plan = deployer.plan(&stage.basics().service, &plain(), change).await.unwrap();
    let report = Run::new::<S>(deployer.deploy(plan).await.unwrap()).end().await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert!(seen(stage).await.is_only(Place::B, 2));
}

/// The better version serves from place B, and A is held for an hour.
async fn held<S: Stage>(stage: &S) -> Seen {
    let before = serving(stage).await;
    let _ = promoted(stage, Version::Better, &plain().hold(LONG)).await;
    let seen = seen(stage).await;
    assert_eq!(seen.routing, Routing::all_to(Place::B));
    assert_eq!(seen.place(Place::A), before.place(Place::A));
    stage.basics().log.clear();
    before
}

pub(crate) async fn a_rollback_to_the_held_place_is_one_change_of_the_routing<S: Stage>(stage: &S) {
    let before = held(stage).await;
    let (report, tally) = under_load(stage, async || {
        let rollout = deployer(stage).await.rollback(&stage.basics().service, &plain()).await;
        Run::new::<S>(rollout.unwrap()).end().await
    })
    .await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_lossless(&tally);
    let log = &stage.basics().log;
    assert_eq!((log.count(is_routing), log.count(is_launch)), (1, 0), "{:?}", log.mutations());
    assert_eq!(seen(stage).await, before);
}

pub(crate) async fn a_rollback_brings_back_what_is_not_held_any_more<S: Stage>(stage: &S) {
    let before = serving(stage).await;
    let _ = promoted(stage, Version::Better, &plain()).await;
    let deployer = deployer(stage).await;
    let rollout = deployer.rollback(&stage.basics().service, &plain()).await.unwrap();
    let report = Run::new::<S>(rollout).end().await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    let seen = seen(stage).await;
    assert!(seen.is_only(report.candidate, 2), "{seen:#?}");
    let revision = |seen: &Seen| seen.places.first().map(|place| place.revision.clone());
    assert_eq!(revision(&seen), revision(&before));
}

pub(crate) async fn a_held_place_is_kept_until_its_time_is_over<S: Stage>(stage: &S) {
    held(stage).await;
    let before = seen(stage).await;
    let deployer = deployer(stage).await;
    let service = &stage.basics().service;
    assert_eq!(deployer.settle(service).await.unwrap(), None);
    assert_eq!(seen(stage).await, before);
    assert_eq!(deployer.settle_now(service).await.unwrap(), Some(Place::A));
    assert!(seen(stage).await.is_only(Place::B, 2));
}

pub(crate) async fn a_held_place_is_removed_when_its_time_is_over<S: Stage>(stage: &S) {
    serving(stage).await;
    let (settled, tally) = under_load(stage, async || {
        let _ = promoted(stage, Version::Better, &plain().hold(SHORT)).await;
        let deployer = deployer(stage).await;
        let wait = async {
            loop {
                if let Some(place) = deployer.settle(&stage.basics().service).await.unwrap() {
                    return place;
                }
                tokio::time::sleep(SHORT / 3).await;
            }
        };
        tokio::time::timeout(S::PATIENCE, wait).await
    })
    .await;
    assert_eq!(settled, Ok(Place::A));
    assert_lossless(&tally);
    assert!(seen(stage).await.is_only(Place::B, 2));
}

pub(crate) async fn the_next_deployment_leaves_nothing_of_what_was_held<S: Stage>(stage: &S) {
    held(stage).await;
    let (report, tally) =
        under_load(stage, async || deploy(stage, Version::Good, &plain()).await).await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_lossless(&tally);
    let seen = seen(stage).await;
    assert!(seen.is_only(report.candidate, 2), "{seen:#?}");
}
