//! Somebody else works on the service: he is asked, waited for, superseded, or the service is taken from him.

use std::time::Duration;

use deploykit::{
    Ask, Change, Deployer, Draft, ErrorKind, OnOrphan, Outcome, Place, Supervised, Weight,
};

use super::orphan::die_at;
use super::see::*;
use super::stage::{Doomed, Stage, Version, deployer, deployer_of};

pub(crate) async fn a_rollout_is_aborted_by_another_deployer<S: Stage>(stage: &S) {
    let before = serving(stage).await;
    let mut run = begin(stage, Version::Better, &plain().bake(LONG)).await;
    run.step("soak").await;
    let bob = deployer_of(stage, "bob").await;
    bob.ask(&stage.basics().service, Ask::Abort, "bob").await.unwrap();
    let report = run.end().await;
    assert_eq!(report.outcome, Outcome::Aborted { by: "bob".to_owned() }, "{report}");
    assert_eq!(seen(stage).await, before);
}

pub(crate) async fn nobody_is_asked_when_nothing_is_open<S: Stage>(stage: &S) {
    serving(stage).await;
    let asked = deployer(stage).await.ask(&stage.basics().service, Ask::Abort, "bob").await;
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::NotFound);
}

pub(crate) async fn what_was_asked_once_is_done_once_whoever_recovers_the_rollout<S: Stage>(
    stage: &S,
) {
    serving(stage).await;
    let strategy = Draft::new()
        .launch(Weight::ALL)
        .await_healthy(LONG)
        .approve(LONG)
        .shift(Weight::percent(25).unwrap())
        .approve(LONG)
        .shift(Weight::ALL)
        .promote()
        .retire(SHORT)
        .on_orphan(OnOrphan::Continue);
    let plan = plan(stage, Version::Better, &strategy).await;
    let (alice, bob) = (Doomed::new(stage).await, deployer_of(stage, "bob").await);
    let service = &stage.basics().service;
    let mut run = Run::new::<S>(alice.deploy(plan).await.unwrap());
    run.step("approve").await;
    bob.ask(service, Ask::Approve, "bob").await.unwrap();
    run.step("approve").await;
    alice.die().await;
    let mut run = super::orphan::recover(stage, &bob).await.unwrap();
    let goes_on = tokio::time::timeout(SHORT * 10, run.step("shift")).await;
    assert!(goes_on.is_err(), "the first approval was taken for the second");
    bob.ask(service, Ask::Approve, "bob").await.unwrap();
    assert_eq!(run.end().await.outcome, Outcome::Promoted);
}

pub(crate) async fn a_newer_version_supersedes_the_one_that_is_being_deployed<S: Stage>(stage: &S) {
    serving(stage).await;
    let service = &stage.basics().service;
    let ((first, second), tally) = under_load(stage, async || {
        let mut run = begin(stage, Version::Better, &plain().bake(LONG)).await;
        run.step("soak").await;
        let bob = deployer_of(stage, "bob").await;
        let change = Change::to(stage.image(Version::Good)).with_env("NEWER", "yes");
        let (superseded, first) =
            tokio::join!(bob.supersede(service, &change, S::PATIENCE), run.end());
        superseded.unwrap();
        let rollout = bob.rollout(service, &plain(), change).await.unwrap();
        (first, Run::new::<S>(rollout).end().await)
    })
    .await;
    assert_eq!(first.outcome, Outcome::Aborted { by: "bob".to_owned() }, "{first}");
    assert_eq!(second.outcome, Outcome::Promoted, "{second}");
    assert_lossless(&tally);
    assert!(seen(stage).await.is_only(second.candidate, 2));
}

pub(crate) async fn what_is_being_deployed_already_is_not_superseded<S: Stage>(stage: &S) {
    serving(stage).await;
    let service = &stage.basics().service;
    let mut run = begin(stage, Version::Better, &plain().bake(SHORT)).await;
    run.step("soak").await;
    let bob = deployer_of(stage, "bob").await;
    let change = Change::to(stage.image(Version::Better));
    let (superseded, first) = tokio::join!(bob.supersede(service, &change, S::PATIENCE), run.end());
    superseded.unwrap();
    assert_eq!(first.outcome, Outcome::Promoted, "{first}");
    assert!(bob.plan(service, &plain(), change).await.unwrap().is_noop());
}

pub(crate) async fn who_waits_can_deploy_when_the_other_has_ended<S: Stage>(stage: &S) {
    serving(stage).await;
    let service = &stage.basics().service;
    let mut run = begin(stage, Version::Better, &plain().bake(SHORT)).await;
    run.step("soak").await;
    let bob = deployer_of(stage, "bob").await;
    let (waited, first) = tokio::join!(bob.wait_for_end(service, S::PATIENCE), run.end());
    waited.unwrap();
    assert_eq!(first.outcome, Outcome::Promoted, "{first}");
    let rollout = bob.rollback(service, &plain()).await.unwrap();
    assert_eq!(Run::new::<S>(rollout).end().await.outcome, Outcome::Promoted);
}

pub(crate) async fn who_waits_too_long_is_told_for_whom<S: Stage>(stage: &S) {
    serving(stage).await;
    let mut run = begin(stage, Version::Better, &plain().bake(LONG)).await;
    run.step("soak").await;
    let bob = deployer_of(stage, "bob").await;
    let error = bob.wait_for_end(&stage.basics().service, SHORT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.message().contains("alice"), "{error}");
    run.control().abort("alice");
    let _ = run.end().await;
}

pub(crate) async fn who_waits_for_the_dead_recovers_what_they_left<S: Stage>(stage: &S) {
    let before = serving(stage).await;
    let plan = plan(stage, Version::Better, &plain().bake(LONG)).await;
    die_at(stage, plan, "soak").await;
    let waited = deployer(stage).await.wait_for_end(&stage.basics().service, S::PATIENCE).await;
    waited.unwrap();
    assert_eq!(seen(stage).await, before);
}

pub(crate) async fn a_service_is_taken_from_a_deployer_that_lives<S: Stage>(stage: &S) {
    let before = serving(stage).await;
    let service = &stage.basics().service;
    let plan = plan(stage, Version::Better, &plain().bake(LONG)).await;
    let alice = deployer_of(stage, "alice").await.deploy(plan).await.unwrap();
    let bob = deployer_of(stage, "bob").await;
    let taken = bob.take_over(service).await.unwrap().unwrap();
    let report = Run::new::<S>(taken).end().await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    let lost = tokio::time::timeout(S::PATIENCE, alice).await.unwrap().unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Conflict, "{lost}");
    assert_eq!(seen(stage).await, before);
}

/// What supervising does for the service, once the dead have lost their lease.
async fn supervised<S: Stage>(stage: &S, deployer: &Deployer) -> Supervised {
    let done = async {
        loop {
            if let Some((service, done)) = deployer.supervise().await.unwrap().pop() {
                assert_eq!(service, stage.basics().service);
                return done.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(S::PATIENCE, done).await.expect("the lease of the dead ends")
}

pub(crate) async fn who_supervises_recovers_what_the_dead_left<S: Stage>(stage: &S) {
    let before = serving(stage).await;
    let plan = plan(stage, Version::Better, &plain().bake(LONG)).await;
    die_at(stage, plan, "soak").await;
    match supervised(stage, &deployer(stage).await).await {
        Supervised::Recovered(report) => assert_eq!(report.outcome, Outcome::RolledBack),
        other => panic!("{other:?}"),
    }
    assert_eq!(seen(stage).await, before);
}

pub(crate) async fn who_supervises_removes_what_is_held_too_long<S: Stage>(stage: &S) {
    serving(stage).await;
    let _ = promoted(stage, Version::Better, &plain().hold(SHORT)).await;
    match supervised(stage, &deployer(stage).await).await {
        Supervised::Settled(place) => assert_eq!(place, Place::A),
        other => panic!("{other:?}"),
    }
    assert!(seen(stage).await.is_only(Place::B, 2));
}

pub(crate) async fn who_supervises_leaves_those_alone_who_work<S: Stage>(stage: &S) {
    serving(stage).await;
    let mut run = begin(stage, Version::Better, &plain().bake(LONG)).await;
    run.step("soak").await;
    let done = deployer_of(stage, "bob").await.supervise().await.unwrap();
    assert!(done.is_empty(), "{done:?}");
    run.control().finish_now("alice");
    assert_eq!(run.end().await.outcome, Outcome::Promoted);
}
