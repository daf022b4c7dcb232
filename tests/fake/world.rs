//! What only a world in memory can be: slow, poor, broken, or a day older.

use std::time::Duration;

use deploykit::{
    BalancerCapability, Change, ErrorKind, OrchestratorCapability, Outcome, Place, Plan,
    UpdateKind, Weight,
};
use deploykit_testing::{Fault, Operation};
use serde_json::json;

use crate::fake::{Fake, play};
use crate::scenarios::see::*;
use crate::scenarios::stage::{Stage, Version, deployer};

#[tokio::test(start_paused = true)]
async fn a_change_that_shows_late_is_waited_for_before_anything_depends_on_it() {
    play(async |stage: &Fake| {
        serving(stage).await;
        stage.world.tune(|settings| {
            settings.routing_lag = Duration::from_secs(3);
            settings.registration_lag = Duration::from_secs(5);
        });
        let (report, tally) = under_load(stage, async || {
            let _ = promoted(stage, Version::Better, &careful()).await;
            deploy(stage, Version::Crash, &careful()).await
        })
        .await;
        assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
        assert_lossless(&tally);
        assert!(seen(stage).await.is_only(Place::B, 2));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn where_there_are_two_places_what_is_held_makes_room() {
    play(async |stage: &Fake| {
        stage.world.tune(|settings| {
            settings.orchestrator = OrchestratorCapability::new().with_places(2);
        });
        serving(stage).await;
        let _ = promoted(stage, Version::Better, &plain().hold(LONG)).await;
        let (report, tally) =
            under_load(stage, async || promoted(stage, Version::Good, &plain()).await).await;
        assert_eq!(report.candidate, Place::A, "{report}");
        assert_lossless(&tally);
        assert!(seen(stage).await.is_only(Place::A, 2));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_edited_to_a_place_that_there_is_not() {
    play(async |stage: &Fake| {
        stage.world.tune(|settings| {
            settings.orchestrator = OrchestratorCapability::new().with_places(2);
        });
        serving(stage).await;
        let plan = plan(stage, Version::Better, &plain()).await;
        let mut text = serde_json::to_value(&plan).unwrap();
        text["candidate"] = json!("D");
        let plan = Plan::from_json(&serde_json::to_vec(&text).unwrap()).unwrap();
        let deployer = deployer(stage).await;
        let error = refused(stage, deployer.deploy(plan)).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.message().contains("place D"), "{error}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn shares_are_refused_where_the_balancer_has_none() {
    play(async |stage: &Fake| {
        let poor = BalancerCapability::all().with_weighted(false);
        stage.world.tune(|settings| settings.balancer = poor);
        serving(stage).await;
        let deployer = deployer(stage).await;
        let change = Change::to(stage.image(Version::Better));
        let strategy = plain().shift_in([Weight::percent(50).unwrap()], SHORT);
        let error = refused(stage, deployer.plan(&stage.basics().service, &strategy, change)).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.message().contains("step 3 (shift)"), "{error}");
        // All at once is possible.
        let _ = promoted(stage, Version::Better, &plain()).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_nobody_ends_is_undone_after_a_day() {
    play(async |stage: &Fake| {
        let before = serving(stage).await;
        let deployer = deployer(stage).await;
        let plan = plan(stage, Version::Better, &plain().bake(SHORT)).await;
        let mut rollout = deployer.deploy(plan).await.unwrap();
        let mut updates = rollout.updates();
        rollout.pause("bob");
        while updates.next().await.unwrap().kind != UpdateKind::Paused {}
        let (day, more) = (Duration::from_secs(24 * 3_600), Duration::from_secs(60));
        let ended = tokio::time::timeout(2 * day, rollout).await;
        let report = ended.expect("a pause ends").unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
        assert!((day..day + more).contains(&report.duration()), "{report}");
        assert_eq!(seen(stage).await, before);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_or_forward_does_no_harm() {
    for millis in [-3_600_000, 3_600_000] {
        play(async |stage: &Fake| {
            serving(stage).await;
            let (report, tally) = under_load(stage, async || {
                let mut run = begin(stage, Version::Better, &careful().bake(SHORT)).await;
                run.step("soak").await;
                stage.world.set_clock_off(millis);
                run.end().await
            })
            .await;
            assert_lossless(&tally);
            let seen = seen(stage).await;
            assert!(seen.is_only(Place::B, 2) || seen.is_only(Place::A, 2), "{report}: {seen:#?}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_undone_needs_an_operator_and_is_undone_when_that_is_mended() {
    play(async |stage: &Fake| {
        let before = serving(stage).await;
        let service = &stage.basics().service;
        let (report, tally) = under_load(stage, async || {
            let mut run = begin(stage, Version::Better, &plain().bake(LONG)).await;
            run.step("soak").await;
            stage.world.fail(Fault::error(Operation::SetRouting, ErrorKind::Denied).always());
            run.control().abort("alice");
            let report = run.end().await;
            // The candidate still serves: nothing was taken from it.
            assert_eq!(seen(stage).await.healthy(Place::B), 2);
            report
        })
        .await;
        assert_eq!(report.outcome, Outcome::NeedsOperator, "{report}");
        assert_lossless(&tally);
        assert!(report.problems[0].contains("set routing failed"), "{report}");
        assert!(report.advice().unwrap().contains("recover"), "{report}");
        let deployer = deployer(stage).await;
        let change = Change::to(stage.image(Version::Good));
        let error = refused(stage, deployer.plan(service, &plain(), change)).await;
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");

        stage.world.heal();
        let (report, tally) = under_load(stage, async || {
            let rollout = deployer.recover(service).await.unwrap().unwrap();
            Run::new::<Fake>(rollout).end().await
        })
        .await;
        assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
        assert_lossless(&tally);
        assert_eq!(seen(stage).await, before);
    })
    .await;
}
