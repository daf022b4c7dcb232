//! Somebody else is there too.

use deploykit::{
    Change, Deployer, ErrorKind, Launch, LoadBalancer, Orchestrator, Outcome, Place, RolloutId,
    Routing, Weight,
};
use deploykit_testing::Mutation;

use super::see::*;
use super::stage::{Stage, Version, deployer, deployer_of};

pub(crate) async fn a_service_that_is_being_deployed_is_refused_to_others_who_are_told_by_whom<
    S: Stage,
>(
    stage: &S,
) {
    serving(stage).await;
    let made_before = plan(stage, Version::Better, &plain()).await;
    let mut run = begin(stage, Version::Better, &plain().bake(LONG)).await;
    run.step("soak").await;
    let bob = deployer_of(stage, "bob").await;
    let service = &stage.basics().service;
    let change = Change::to(stage.image(Version::Better));
    let errors = [
        refused(stage, bob.plan(service, &plain(), change)).await,
        refused(stage, bob.deploy(made_before)).await,
        refused(stage, bob.recover(service)).await,
        refused(stage, bob.settle(service)).await,
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        let pid = std::process::id().to_string();
        assert!(error.message().contains("alice") && error.message().contains(&pid), "{error}");
    }
    // And it goes on as if nothing had been.
    run.control().finish_now("alice");
    assert_eq!(run.end().await.outcome, Outcome::Promoted);
}

pub(crate) async fn of_two_who_deploy_at_once_one_is_refused<S: Stage>(stage: &S) {
    serving(stage).await;
    at_once(stage, deployer(stage).await, deployer_of(stage, "bob").await).await;
}

pub(crate) async fn one_deployer_deploys_a_service_once_at_a_time<S: Stage>(stage: &S) {
    serving(stage).await;
    let alice = deployer(stage).await;
    at_once(stage, alice.clone(), alice).await;
}

/// Two deployments of one plan, of which one is refused and the other one is not disturbed.
async fn at_once<S: Stage>(stage: &S, one: Deployer, other: Deployer) {
    let plan = plan(stage, Version::Better, &plain()).await;
    let (one, other) = tokio::join!(one.deploy(plan.clone()), other.deploy(plan));
    let (rollout, error) = match (one, other) {
        (Ok(rollout), Err(error)) | (Err(error), Ok(rollout)) => (rollout, error),
        other => panic!("not exactly one of them: {other:?}"),
    };
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let report = Run::new::<S>(rollout).end().await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert!(seen(stage).await.is_only(Place::B, 2));
}

pub(crate) async fn a_plan_for_a_world_that_is_gone_is_refused<S: Stage>(stage: &S) {
    serving(stage).await;
    let stale = plan(stage, Version::Better, &plain()).await;
    let _ = promoted(stage, Version::Better, &plain()).await;
    let deployer = deployer(stage).await;
    let error = refused(stage, deployer.deploy(stale)).await;
    assert_eq!(error.kind(), ErrorKind::StalePlan, "{error}");
    assert!(error.message().contains("stable was"), "{error}");
}

pub(crate) async fn a_desired_count_that_somebody_raised_is_what_the_new_version_gets<S: Stage>(
    stage: &S,
) {
    let before = serving(stage).await;
    let half = Weight::percent(50).unwrap();
    let mut run = begin(stage, Version::Better, &plain().shift_in([half], LONG)).await;
    run.step("soak").await;
    let launch = Launch {
        service: stage.basics().service.clone(),
        place: Place::A,
        revision: before.places[0].revision.clone(),
        count: 3,
        rollout: RolloutId::new("somebody-else"),
    };
    stage.providers().await.orchestrator.launch(&launch).await.unwrap();
    run.control().finish_now("alice");
    let report = run.end().await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    let seen = seen(stage).await;
    assert!(seen.is_only(Place::B, 3), "{seen:#?}");
    let changes = stage.basics().log.mutations();
    let at = |wanted| changes.iter().position(|change| *change == wanted);
    let launched = at(Mutation::Launch(Place::B, 3));
    let routed = at(Mutation::Routing(Routing::all_to(Place::B)));
    assert!(launched.is_some() && launched < routed, "{changes:?}");
}

pub(crate) async fn a_stable_that_lost_a_task_has_it_again_before_requests_return<S: Stage>(
    stage: &S,
) {
    serving(stage).await;
    let service = &stage.basics().service;
    let (report, tally) = under_load(stage, async || {
        let mut run = begin(stage, Version::Better, &plain().bake(LONG)).await;
        run.step("soak").await;
        let parts = stage.providers().await;
        let balancer = parts.balancer.unwrap();
        let idle = async {
            while balancer.observe(service).await.unwrap().in_flight(Place::A) > 0 {
                tokio::time::sleep(SHORT / 10).await;
            }
        };
        tokio::time::timeout(S::PATIENCE, idle).await.unwrap();
        let tasks = seen(stage).await.place(Place::A).unwrap().tasks.clone();
        parts.orchestrator.stop(service, Place::A, &[tasks[0].0.clone()]).await.unwrap();
        run.control().abort("alice");
        run.end().await
    })
    .await;
    assert_eq!(report.outcome, Outcome::Aborted { by: "alice".to_owned() }, "{report}");
    assert_lossless(&tally);
    let seen = seen(stage).await;
    assert!(seen.is_only(Place::A, 2), "{seen:#?}");
    let changes = stage.basics().log.mutations();
    let at = |wanted: &Mutation| changes.iter().rposition(|change| change == wanted);
    let launched = at(&Mutation::Launch(Place::A, 2));
    let routed = at(&Mutation::Routing(Routing::all_to(Place::A)));
    assert!(launched.is_some() && launched < routed, "{changes:?}");
}

pub(crate) async fn a_routing_that_somebody_else_set_stops_the_rollout<S: Stage>(stage: &S) {
    serving(stage).await;
    let half = Weight::percent(50).unwrap();
    let mut run = begin(stage, Version::Better, &plain().shift_in([half], LONG)).await;
    run.step("soak").await;
    let foreign = Routing::split(Place::A, Place::B, Weight::percent(25).unwrap());
    let balancer = stage.providers().await.balancer.unwrap();
    balancer.set_routing(&stage.basics().service, &foreign).await.unwrap();
    run.control().finish_now("alice");
    let report = run.end().await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert!(report.why.as_ref().unwrap().contains("somebody else"), "{report}");
    let seen = seen(stage).await;
    assert!(seen.is_only(Place::A, 2), "{seen:#?}");
}

pub(crate) async fn a_damaged_lease_file_that_nobody_holds_is_in_nobodys_way<S: Stage>(stage: &S) {
    serving(stage).await;
    std::fs::write(stage.basics().lease(), "{\"owner\":").unwrap();
    let _ = promoted(stage, Version::Better, &plain()).await;
}

pub(crate) async fn a_stable_that_lacks_a_task_is_told_of_and_can_be_replaced<S: Stage>(stage: &S) {
    serving(stage).await;
    stage.kill_task(Place::A).await;
    let report = promoted(stage, Version::Better, &plain()).await;
    assert!(report.stable_was_unhealthy, "{report}");
    assert!(seen(stage).await.is_only(Place::B, 2));
}
