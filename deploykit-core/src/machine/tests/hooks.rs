//! Hooks around the steps, and on the way back.

use super::*;
use crate::provider::Point;

/// A plan with a hook at every point.
fn hooked(draft: Draft) -> Plan {
    Point::all().fold(plan(draft), |plan, point| plan.with_hook(point, "h", 30 * SECOND))
}

#[test]
fn hooks_run_at_every_point_of_the_way_forward_in_its_order() {
    let mut run = Run::new(hooked(full()));
    assert_eq!(run.end(), Outcome::Promoted);
    let calls: Vec<_> =
        run.calls.iter().map(String::as_str).filter(|call| *call != "survey").collect();
    assert_eq!(
        calls,
        [
            "hook RECONCILE_SERVICE",
            "hook PRE_SCALE_UP",
            "register",
            "launch B 2",
            "healthy B 2",
            "hook POST_SCALE_UP",
            "hook TEST_TRAFFIC_SHIFT",
            "test B",
            "hook POST_TEST_TRAFFIC_SHIFT",
            "test none",
            "hook PRE_PRODUCTION_TRAFFIC_SHIFT",
            "hook PRODUCTION_TRAFFIC_SHIFT",
            "healthy B 2",
            "route A 90 %, B 10 %",
            "hook PRODUCTION_TRAFFIC_SHIFT",
            "healthy B 2",
            "route B 100 %",
            "hook POST_PRODUCTION_TRAFFIC_SHIFT",
            "healthy B 2",
            "route B 100 %",
            "decide",
            "hook CLEAN_UP",
            "drain A",
            "retire A",
        ]
    );
}

#[test]
fn a_hook_that_fails_undoes_the_rollout() {
    let mut run = Run::new(hooked(full()));
    run.until("hook PRE_PRODUCTION_TRAFFIC_SHIFT").fail("the cache is cold");
    assert_eq!(run.end(), Outcome::RolledBack);
    assert_eq!(
        run.since("hook PRE_PRODUCTION_TRAFFIC_SHIFT FAILS"),
        ["hook ON_UNDO", "test none", "drain B", "retire B", "hook ON_UNDONE"]
    );
}

#[test]
fn a_hook_that_fails_while_undoing_is_noted_and_stops_nothing() {
    let mut run = Run::new(hooked(full()));
    run.until("healthy B 2").fail("bad");
    run.until("hook ON_UNDO").fail("nobody listens");
    run.until("hook ON_UNDONE").fail("still nobody");
    assert_eq!(run.end(), Outcome::RolledBack);
    assert_eq!(run.machine.report().notes, ["nobody listens", "still nobody"]);
    assert!(run.calls.contains(&"retire B".to_owned()));
}

#[test]
fn a_hook_in_flight_is_awaited_before_an_abort_is_carried_out() {
    let mut run = Run::new(hooked(full()));
    run.until("hook PRE_SCALE_UP");
    run.event(Event::AbortRequested { by: "ann".into() });
    assert_eq!(text(&run.wish().unwrap().call), "hook PRE_SCALE_UP");
    run.answer();
    assert_eq!(text(&run.wish().unwrap().call), "hook ON_UNDO");
}

#[test]
fn a_hook_whose_end_was_not_written_down_runs_again() {
    let mut run = Run::new(hooked(full().on_orphan(OnOrphan::Continue)));
    run.until("hook PRE_SCALE_UP");
    run.event(Event::Recovered { by: owner() });
    run.until("hook PRE_SCALE_UP");
    assert_eq!(run.end(), Outcome::Promoted);
}
