//! What the engine itself promises.

use std::time::Duration;

use deploykit_core::{ErrorKind, Place, Routing, Weight};
use deploykit_testing::Mutation;

use crate::case::{Case, Deed, Fault, Harm, SECOND, Side};
use crate::checks::{self, Wrong};
use crate::draw;
use crate::run::run;
use crate::shrink::shrink;
use crate::sky::Sky;

#[test]
fn the_same_seed_gives_the_same_trace_to_the_byte() {
    for seed in 900..930 {
        let trace = || run(&draw::any(seed), true).trace;
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

#[test]
fn another_seed_gives_another_trace() {
    assert_ne!(run(&draw::any(900), true).trace, run(&draw::any(901), true).trace);
}

#[test]
fn a_case_reads_back_from_its_json_and_runs_the_same() {
    for seed in 930..935 {
        let case = draw::any(seed);
        let json = serde_json::to_string(&case).unwrap();
        let back: Case = serde_json::from_str(&json).unwrap();
        assert_eq!(back, case);
        assert_eq!(run(&back, true).trace, run(&case, true).trace);
    }
}

#[test]
fn a_failing_case_is_shrunk_to_what_fails() {
    let blow = Harm::Fail(ErrorKind::Throttled);
    let case = Case {
        // It cannot be planned.
        replicas: Some(0),
        deeds: vec![(100, Deed::Unpause), (200, Deed::Approve)],
        faults: vec![Fault { side: Side::Provider, stage: None, nth: 9, times: 2, blow }],
        ..super::rolls::roll(false, false)
    };
    let small = shrink(&case, Wrong::NoPlan);
    assert!(small.faults.is_empty() && small.deeds.is_empty() && small.count == 1, "{small:?}");
    assert_eq!(run(&small, false).found.unwrap_err().what, Wrong::NoPlan);
}

#[test]
fn a_roll_beyond_its_bounds_is_found() {
    let case = super::rolls::roll(false, false);
    let seen = |ready, all| checks::bounds(&case, &[(Duration::ZERO, (ready, all))]);
    assert!(seen(3, 5).is_ok());
    assert!(seen(2, 5).is_err());
    assert!(seen(3, 6).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_share_that_the_plan_does_not_know_is_found() {
    let sky = Sky::new(&super::rolls::roll(false, false));
    let share = |percent| Weight::percent(percent).unwrap();
    let canary = deploykit_core::Canary::steps([(share(10), SECOND)]);
    let change = deploykit_core::Change::to("web:2");
    let plan = sky.fresh().plan(&sky.web, &canary, change).await.unwrap();
    let set = |percent| {
        let routing = Routing::split(Place::A, Place::B, share(percent));
        checks::routings(&plan, &[Mutation::Routing(routing)])
    };
    assert!(set(10).is_ok() && set(100).is_ok() && set(0).is_ok());
    assert!(set(11).is_err());
}
