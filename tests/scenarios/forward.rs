//! A good version comes.

use deploykit::{BlueGreen, Outcome, Place, Routing, Weight};

use super::see::*;
use super::stage::{Load, Stage, Version};

pub(crate) async fn the_first_deployment_is_promoted_and_serves<S: Stage>(stage: &S) {
    let report = first(stage, &stage.basics().service, Version::Good).await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    let seen = seen(stage).await;
    assert!(seen.is_only(Place::A, 2), "{seen:#?}");
    let ((), tally) = under_load(stage, async || ()).await;
    assert_lossless(&tally);
}

pub(crate) async fn a_version_replaces_another_under_load_and_no_request_is_lost<S: Stage>(
    stage: &S,
) {
    let before = serving(stage).await;
    let (report, tally) =
        under_load(stage, async || deploy(stage, Version::Better, &plain()).await).await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_lossless(&tally);
    assert!(tally.answers_of(Place::A) > 0 && tally.answers_of(Place::B) > 0, "{tally}");
    let seen = seen(stage).await;
    assert!(seen.is_only(Place::B, 2), "{seen:#?}");
    assert_eq!(seen.made.len(), before.made.len(), "{seen:#?}");
}

pub(crate) async fn requests_move_in_the_steps_of_the_plan_and_no_request_is_lost<S: Stage>(
    stage: &S,
) {
    serving(stage).await;
    let shares = [10, 60].map(|percent| Weight::percent(percent).unwrap());
    let strategy: BlueGreen = careful().shift_in(shares, SHORT);
    let (report, tally) = under_load(stage, async || {
        let mut run = begin(stage, Version::Better, &strategy).await;
        for share in shares {
            run.routing(&Routing::split(Place::A, Place::B, share)).await;
        }
        run.routing(&Routing::all_to(Place::B)).await;
        run.end().await
    })
    .await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_lossless(&tally);
    let routings = stage.basics().log.count(is_routing);
    assert_eq!(routings, shares.len() + 1, "{:?}", stage.basics().log.mutations());
}

pub(crate) async fn two_services_are_deployed_side_by_side<S: Stage>(stage: &S) {
    serving(stage).await;
    let other = &stage.basics().other;
    let report = first(stage, other, Version::Good).await;
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    let before = seen_of(stage, other).await;

    let deployer = super::stage::deployer(stage).await;
    let bad = deploykit::Change::to(stage.image(Version::Crash));
    let bad = deployer.plan(other, &plain(), bad).await.unwrap();
    let good = plan(stage, Version::Better, &careful()).await;
    let others_load = stage.load(other).await;
    let ((good, bad), tally) = under_load(stage, async || {
        let good = Run::new::<S>(deployer.deploy(good).await.unwrap());
        let bad = Run::new::<S>(deployer.deploy(bad).await.unwrap());
        tokio::join!(good.end(), bad.end())
    })
    .await;
    let others_tally = others_load.stop().await;
    assert_eq!(good.outcome, Outcome::Promoted, "{good}");
    assert_eq!(bad.outcome, Outcome::RolledBack, "{bad}");
    assert_lossless(&tally);
    assert_lossless(&others_tally);
    assert!(seen(stage).await.is_only(Place::B, 2));
    assert_eq!(seen_of(stage, other).await, before);
}
