//! Rolling updates that turn back, at every moment and from everywhere.

use deploykit_core::{
    Amount, Change, ErrorKind, OnOrphan, Outcome, Place, Report, Rolling, Strategy,
};
use deploykit_testing::{Fault as WorldFault, Operation};
use tokio::time::sleep;

use crate::case::{Case, Deed, Fault, Harm, SECOND, Side, Version, Way};
use crate::run::run;
use crate::sky::Sky;

/// A rolling update of four tasks, one more and one fewer, to which nothing happens.
pub(super) fn roll(pooled: bool, worker: bool) -> Case {
    let one = Amount::Count(1);
    Case {
        seed: 7,
        count: 4,
        worker,
        way: Way::Rolling { surge: one, unavailable: one, pooled, min_ready: 0, watch: None },
        replicas: None,
        version: Version::Good,
        routing_lag: 0,
        registration_lag: 50,
        stale: 0,
        throttle: None,
        room: None,
        rate: 30,
        orphan: OnOrphan::Undo,
        hooks: vec![],
        jobs: vec![],
        deeds: vec![],
        faults: vec![],
        calm: None,
    }
}

fn passes(case: &Case) {
    if let Err(failure) = run(case, false).found {
        let json = serde_json::to_string(case).unwrap();
        panic!("{:?}: {}\n{json}", failure.what, failure.why);
    }
}

fn once(side: Side, nth: u32, blow: Harm) -> Vec<Fault> {
    vec![Fault { side, stage: None, nth, times: 1, blow }]
}

#[test]
fn an_abort_at_any_moment_of_a_roll_gives_back_what_there_was_within_the_bounds() {
    for (pooled, worker) in [(false, false), (true, false), (false, true)] {
        for at in (0..5_000).step_by(171) {
            let deeds = vec![(at, Deed::Abort)];
            passes(&Case { deeds, ..roll(pooled, worker) });
        }
    }
}

#[test]
fn a_call_that_fails_for_good_in_a_roll_leaves_all_old_or_all_new_and_as_many_tasks() {
    for pooled in [false, true] {
        for nth in (1..160).step_by(11) {
            let faults = once(Side::Provider, nth, Harm::Fail(ErrorKind::Denied));
            passes(&Case { faults, ..roll(pooled, false) });
        }
    }
}

#[test]
fn a_deployer_that_dies_in_a_roll_is_gone_on_from_within_the_bounds() {
    for orphan in [OnOrphan::Continue, OnOrphan::Undo] {
        for nth in (1..220).step_by(17) {
            let faults = once(Side::Any, nth, Harm::KillAfter);
            passes(&Case { faults, orphan, ..roll(false, false) });
        }
    }
}

#[test]
fn a_roll_to_another_number_of_tasks_that_is_undone_has_as_many_as_before() {
    for replicas in [1, 2, 9] {
        for at in (100..4_000).step_by(311) {
            for worker in [false, true] {
                let deeds = vec![(at, Deed::Abort)];
                passes(&Case { deeds, replicas: Some(replicas), ..roll(false, worker) });
            }
        }
    }
}

/// Rolls `web:2` out in a world that was changed before.
async fn deploy(sky: &Sky, strategy: &dyn Strategy) -> Report {
    let deployer = sky.fresh();
    let plan = deployer.plan(&sky.web, strategy, Change::to("web:2")).await.unwrap();
    deployer.deploy(plan).await.unwrap().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_undo_of_a_roll_that_stopped_nothing_does_not_need_the_old_image() {
    let sky = Sky::new(&Case { version: Version::Crashes, ..roll(false, false) });
    let gone = WorldFault::error(Operation::Register, ErrorKind::NotFound);
    sky.world.fail(gone.with_nth(2).always());
    let report = deploy(&sky, &Rolling::start_first()).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert_eq!(sky.whole(false), Ok((Place::A, 4)));
}

#[tokio::test(start_paused = true)]
async fn a_roll_from_a_stable_that_was_broken_gets_back_to_that_and_says_so() {
    let sky = Sky::new(&Case { version: Version::Crashes, ..roll(false, false) });
    let deployer = sky.fresh();
    let plan = deployer.plan(&sky.web, &Rolling::start_first(), Change::to("web:2")).await.unwrap();
    // One task of stable never comes back, however often it is restarted: not while the way back is under way, either.
    let killer = tokio::spawn({
        let (world, web) = (sky.world.clone(), sky.web.clone());
        async move {
            loop {
                let _ = world.kill_task(&web, Place::A, 0);
                sleep(SECOND / 20).await;
            }
        }
    });
    sleep(SECOND).await;
    let report = deployer.deploy(plan).await.unwrap().await.unwrap();
    killer.abort();
    assert_eq!(report.outcome, Outcome::RolledBack, "{report}");
    assert!(report.stable_was_unhealthy, "{report}");
    let left: Vec<_> = sky.world.snapshot(&sky.web).places.into_keys().collect();
    assert_eq!(left, [Place::A]);
}

#[test]
fn a_roll_whose_tasks_are_healthy_for_moments_only_comes_to_its_end() {
    let faults = vec![Fault {
        side: Side::Any,
        stage: None,
        nth: 45,
        times: 12,
        blow: Harm::Fail(ErrorKind::Throttled),
    }];
    let (surge, unavailable) = (Amount::Count(0), Amount::Count(1));
    passes(&Case {
        seed: 7521,
        count: 12,
        way: Way::Rolling { surge, unavailable, pooled: true, min_ready: 0, watch: None },
        version: Version::FlapsFast,
        routing_lag: 20_000,
        throttle: Some((8, 5)),
        rate: 25,
        orphan: OnOrphan::Continue,
        faults,
        ..roll(true, false)
    });
}
