//! What only real parts can show: parts that restart, are not there, or are in each other's way.

use std::time::Duration;

use deploykit::docker::Frontend;
use deploykit::{Change, ErrorKind, LoadBalancer, Outcome, Place, Rolling, Routing, Weight};

use crate::docker::{Docker, engine, play};
use crate::scenarios::see::*;
use crate::scenarios::stage::{Stage, Version, deployer};

/// What there is, once the balancer answers and finds all targets well again.
async fn once_healthy(stage: &Docker, wanted: &Seen) {
    let service = &stage.basics().service;
    let wait = async {
        while !stage.haproxy().observe(service).await.is_ok_and(|state| {
            state.targets.iter().all(|t| t.health == deploykit::TargetHealth::Healthy)
        }) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Docker::PATIENCE, wait).await.expect("HAProxy comes back");
    assert_eq!(seen(stage).await, *wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_balancer_has_its_routing_and_targets_as_they_were() {
    play(async |stage: &Docker| {
        serving(stage).await;
        // Two places, so that there are shares to be kept.
        let half = Weight::percent(30).unwrap();
        let mut run = begin(stage, Version::Better, &plain().shift_in([half], LONG)).await;
        run.step("soak").await;
        let before = seen(stage).await;
        assert_eq!(before.routing, Routing::split(Place::A, Place::B, half));
        engine(&["restart", "--time", "0", &stage.haproxys_container()]);
        once_healthy(stage, &before).await;
        // It serves by them, and the rollout goes on.
        let (report, tally) = under_load(stage, async || {
            run.control().finish_now("alice");
            run.end().await
        })
        .await;
        assert_eq!(report.outcome, Outcome::Promoted, "{report}");
        assert_lossless(&tally);
        assert!(tally.answers_of(Place::A) > 0 && tally.answers_of(Place::B) > 0, "{tally}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_somebody_renamed_are_drained_by_a_roll_all_the_same() {
    play(async |stage: &Docker| {
        serving(stage).await;
        for task in stage.made(&stage.basics().service).await {
            let (name, id) = task.split_once(' ').unwrap();
            engine(&["rename", id, &format!("{name}-by-hand")]);
        }
        let roll = async || deploy(stage, Version::Better, &Rolling::start_first()).await;
        let (report, tally) = under_load(stage, roll).await;
        assert_eq!(report.outcome, Outcome::Promoted, "{report}");
        assert_lossless(&tally);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_that_cannot_be_reached_is_named_by_its_socket() {
    play(async |stage: &Docker| {
        let before = serving(stage).await;
        let deployer = deployer(stage).await;
        let ready = plan(stage, Version::Better, &plain()).await;
        engine(&["stop", "--time", "0", &stage.haproxys_container()]);
        let change = Change::to(stage.image(Version::Better));
        let planned = deployer.plan(&stage.basics().service, &plain(), change).await.unwrap_err();
        let deployed = deployer.deploy(ready).await.unwrap_err();
        for error in [planned, deployed] {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            let socket = stage.state().join("run/master.sock");
            assert!(error.message().contains(socket.to_str().unwrap()), "{error}");
            assert!(error.hint().is_some(), "{error}");
        }
        assert_eq!(stage.basics().log.mutations(), []);
        engine(&["start", &stage.haproxys_container()]);
        once_healthy(stage, &before).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_another_service_has_is_named_and_both_go_on() {
    play(async |stage: &Docker| {
        serving(stage).await;
        let third = deploykit::ServiceName::new("third").unwrap();
        let frontend = Frontend::new(8080);
        let error = refused(stage, stage.haproxy().add_service(&third, &frontend)).await;
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        assert!(error.message().contains("8080"), "{error}");
        assert!(error.message().contains(stage.basics().service.as_str()), "{error}");
        let ((), tally) = under_load(stage, async || ()).await;
        assert_lossless(&tally);
    })
    .await;
}
