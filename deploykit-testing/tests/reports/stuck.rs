//! Rollouts that did not end.

use std::time::Duration;

use std::future::IntoFuture;

use deploykit_core::{
    BlueGreen, Canary, Orchestrator, Outcome, Place, Report, Rolling, ServiceState, Strategy,
};
use deploykit_testing::{Behaviour, Fault, Operation};
use tokio::time::{sleep, timeout};

use crate::stage::{PATIENCE, SECOND, Stage, half};

/// Much longer than any of these rollouts may take.
const HOUR: Duration = Duration::from_secs(3_600);

/// Each strategy; a place may take so long to become healthy, and is watched for a minute.
fn strategies(within: Duration) -> [Box<dyn Strategy>; 5] {
    let minute = SECOND * 60;
    [
        Box::new(BlueGreen::new().healthy_within(within).bake(minute)),
        Box::new(Canary::steps([(half(), minute)]).healthy_within(within)),
        Box::new(Canary::steps([(half(), minute)]).healthy_within(within).capacity_follows()),
        Box::new(Rolling::start_first().healthy_within(within).min_ready(minute)),
        Box::new(Rolling::stop_first().healthy_within(within).min_ready(minute).pooled()),
    ]
}

/// Deploys `web:2` while an autoscaler changes its mind about stable every five seconds.
async fn autoscaled(strategy: &dyn Strategy, next: Behaviour) -> (Stage, Report) {
    let stage = Stage::new();
    stage.world.image("web:2", next).unwrap();
    let plan = stage.plan(strategy, "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    let autoscaler = tokio::spawn({
        let (world, web) = (stage.world.clone(), stage.web.clone());
        async move {
            for count in (4..=5).cycle() {
                sleep(SECOND * 5).await;
                // Where nothing of it is left there is nothing to be scaled.
                let _ = world.scale(&web, Place::A, count);
            }
        }
    });
    let report = timeout(PATIENCE, rollout.into_future()).await.unwrap().unwrap();
    autoscaler.abort();
    (stage, report)
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_in_the_middle_of_a_rollout_does_not_keep_it_from_its_deadline() {
    for strategy in strategies(SECOND * 31) {
        let (stage, report) = autoscaled(&*strategy, Behaviour::good().never_ready()).await;
        assert_eq!(report.outcome, Outcome::RolledBack, "{strategy:?}: {report}");
        assert!(report.duration() < SECOND * 120, "{strategy:?}: {report}");
        let seen = stage.world.snapshot(&stage.web);
        assert_eq!(seen.places.keys().collect::<Vec<_>>(), [&Place::A], "{strategy:?}: {seen}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_that_fills_up_what_a_rollout_empties_does_not_keep_it_from_its_end() {
    for strategy in strategies(SECOND * 31) {
        let (stage, report) = autoscaled(&*strategy, Behaviour::good()).await;
        assert!(report.duration() < HOUR, "{strategy:?}: {report}");
        let seen = stage.world.snapshot(&stage.web);
        assert_eq!(seen.places.len(), 1, "{strategy:?}: {report}: {seen}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_whose_tasks_start_and_then_exit_is_given_up() {
    // Before the balancer knows it, and when it has served for a while.
    for lives in [Duration::from_millis(20), SECOND * 4] {
        for strategy in strategies(HOUR) {
            let stage = Stage::new();
            stage.world.image("web:2", Behaviour::good().dies_after(lives)).unwrap();
            let report = stage.deploy(&*strategy, "web:2").await;
            let what = format!("{strategy:?}, {lives:?}: {report}");
            assert_eq!(report.outcome, Outcome::RolledBack, "{what}");
            assert!(report.duration() < SECOND * 120, "{what}");
            assert_eq!(stage.whole(), Ok(Place::A), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_roll_goes_on_when_a_task_is_gone_before_it_is_stopped() {
    let stage = Stage::new();
    let traffic = stage.traffic();
    // The call to stop the first task hangs, and somebody else stops that task meanwhile.
    stage.world.fail(Fault::delay(Operation::Stop, SECOND * 5));
    let plan = stage.plan(&Rolling::start_first(), "web:2").await;
    let rollout = stage.fresh().deploy(plan).await.unwrap();
    stage.until(|world| world.count(Operation::Stop) > 0).await;
    let parts = stage.world.orchestrator();
    let of_stable = |state: ServiceState| state.place(Place::A).unwrap().tasks.clone();
    let first = of_stable(parts.observe(&stage.web).await.unwrap())[0].id.clone();
    parts.stop(&stage.web, Place::A, &[first]).await.unwrap();
    let report = rollout.await.unwrap();
    assert_eq!(report.outcome, Outcome::Promoted, "{report}");
    assert_eq!(stage.whole(), Ok(Place::B));
    let tally = traffic.stop().await;
    assert_eq!(tally.failed, 0, "{tally}");
}
