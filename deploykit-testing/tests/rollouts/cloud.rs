//! What clouds are like: they answer only so often, tell what is not so any more, and have only so much room.

use deploykit_core::{
    BlueGreen, Canary, ErrorKind, Outcome, Place, Report, Rolling, Routing, Strategy, Weight,
};
use deploykit_testing::{Tap, Throttle, World};

use crate::stage::{SECOND, Stage, half};

fn blue_green() -> BlueGreen {
    BlueGreen::new()
        .healthy_within(SECOND * 60)
        .drain(SECOND * 20)
        .validate(["smoke"])
        .shift_in([half()], SECOND)
        .watch(["live"])
        .bake(SECOND * 5)
}

fn canary() -> Canary {
    Canary::steps([(Weight::percent(10).unwrap(), SECOND * 5), (half(), SECOND * 5)])
        .healthy_within(SECOND * 60)
        .drain(SECOND * 20)
        .watch(["live"])
}

fn strategies() -> [Box<dyn Strategy>; 3] {
    let roll = Rolling::start_first().healthy_within(SECOND * 60).drain(SECOND * 20);
    [Box::new(blue_green()), Box::new(canary()), Box::new(roll)]
}

/// Deploys what was planned before the world became so, under requests, of which none is lost; no rule of safety is broken.
async fn deploy(stage: &Stage, strategy: &dyn Strategy, then: impl Fn(&World)) -> Report {
    let traffic = stage.traffic();
    let plan = stage.plan(strategy, "web:2").await;
    then(&stage.world);
    let report = stage.fresh().deploy(plan).await.unwrap().await.unwrap();
    let tally = traffic.stop().await;
    assert_eq!(tally.failed, 0, "{tally}\n{report}");
    stage.world.assert_safe();
    report
}

#[tokio::test(start_paused = true)]
async fn throttled_calls_neither_fail_a_rollout_nor_lose_a_request() {
    for strategy in strategies() {
        let stage = Stage::new();
        let throttle = Throttle::per_second(2).with_burst(5);
        let throttles = |world: &World| {
            world.tune(|settings| {
                settings.orchestrator_throttle = Some(throttle);
                settings.balancer_throttle = Some(throttle);
            });
        };
        let report = deploy(&stage, &*strategy, throttles).await;
        assert_eq!(report.outcome, Outcome::Promoted, "{report}");
        let calls = stage.world.calls();
        assert!(calls.iter().any(|call| call.error == Some(ErrorKind::Throttled)), "{report}");
        assert_eq!(stage.whole(), Ok(Place::B));
    }
}

#[tokio::test(start_paused = true)]
async fn reads_that_are_old_neither_fail_a_rollout_nor_lose_a_request() {
    for seed in 0..6 {
        for strategy in strategies() {
            let stage = Stage::of_seed(seed);
            stage.world.tune(|settings| settings.stale_reads = SECOND * 5);
            let report = deploy(&stage, &*strategy, |_| {}).await;
            assert_eq!(report.outcome, Outcome::Promoted, "seed {seed}: {report}");
            assert!(report.notes.is_empty(), "seed {seed}: {report}");
            assert_eq!(stage.whole(), Ok(Place::B), "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployer_that_takes_over_where_reads_are_old_loses_no_request() {
    for seed in 0..6 {
        let stage = Stage::of_seed(seed);
        stage.world.tune(|settings| settings.stale_reads = SECOND * 5);
        let traffic = stage.traffic();
        let plan = stage.plan(&blue_green(), "web:2").await;
        let tap = Tap::new();
        let rollout = stage.deployer(&tap).deploy(plan).await.unwrap();
        stage.until(|world| world.snapshot(&stage.web).routing == Routing::all_to(Place::B)).await;
        stage.orphan(&tap).await;
        drop(rollout);
        stage.clean_up().await;
        let tally = traffic.stop().await;
        assert_eq!(tally.failed, 0, "seed {seed}: {tally}");
        assert_eq!(stage.whole(), Ok(Place::A), "seed {seed}");
        stage.world.assert_safe();
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_goes_on_when_there_is_room_again() {
    for strategy in strategies() {
        let stage = Stage::new();
        stage.world.tune(|settings| settings.room = Some(3));
        let (world, relief) = (stage.world.clone(), SECOND * 20);
        tokio::spawn(async move {
            tokio::time::sleep(relief).await;
            world.tune(|settings| settings.room = None);
        });
        let report = deploy(&stage, &*strategy, |_| {}).await;
        assert_eq!(report.outcome, Outcome::Promoted, "{report}");
        assert!(stage.world.now() > relief, "{report}");
        assert_eq!(stage.whole(), Ok(Place::B));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_never_finds_room_is_undone_and_says_why() {
    for strategy in strategies() {
        let stage = Stage::new();
        stage.world.tune(|settings| settings.room = Some(3));
        let report = deploy(&stage, &*strategy, |_| {}).await;
        assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
        let why = report.why.unwrap();
        assert!(why.contains("unable to place it: 3 tasks take up the room of 3"), "{why}");
        assert_eq!(stage.whole(), Ok(Place::A));
    }
}
