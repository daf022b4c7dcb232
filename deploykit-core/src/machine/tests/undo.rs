//! Getting back.

use super::*;

/// Aborted after the last shift, when stable has these tasks, so many that are there and so many that are ready.
fn aborted(stable: (u32, u32)) -> Run {
    let mut run = Run::new(plan(full()));
    run.until("route B 100 %").answer();
    run.stable = stable;
    run.event(Event::AbortRequested { by: "ann".into() });
    run
}

#[test]
fn a_candidate_that_never_gets_healthy_is_removed_and_the_routing_left_alone() {
    let mut run = Run::new(plan(full()));
    run.until("healthy B 2").fail("exit code 3");
    assert_eq!(run.end(), Outcome::RolledBack);
    assert_eq!(run.since("healthy B 2 FAILS"), ["drain B", "retire B"]);
    assert_eq!(run.machine.report().why.as_deref(), Some("exit code 3"));
}

#[test]
fn undoing_takes_the_traffic_first_and_the_capacity_last() {
    let mut run = Run::new(plan(full()));
    run.until("route B 100 %");
    run.event(Event::AbortRequested { by: "ann".into() });
    assert_eq!(run.end(), Outcome::Aborted { by: "ann".into() });
    assert_eq!(
        run.since("route B 100 %"),
        ["survey", "healthy A 2", "route A 100 %", "test none", "drain B", "retire B"]
    );
}

#[test]
fn an_undo_is_not_undone() {
    let mut run = Run::new(plan(full()));
    run.until("healthy B 2").fail("bad");
    run.event(Event::AbortRequested { by: "ann".into() });
    run.event(Event::FinishRequested { by: "ann".into() });
    run.event(Event::Paused { by: "ann".into() });
    assert_eq!(run.end(), Outcome::RolledBack);
}

#[test]
fn a_stable_that_lost_tasks_gets_them_back_before_the_traffic() {
    let mut run = aborted((1, 1));
    run.end();
    assert_eq!(
        run.since("route B 100 %")[..4],
        ["survey", "register", "launch A 2", "healthy A 2"]
    );
}

#[test]
fn a_stable_whose_task_is_there_but_dead_gets_another_one_before_the_traffic() {
    let mut run = aborted((2, 1));
    run.end();
    assert_eq!(
        run.since("route B 100 %")[..4],
        ["survey", "register", "launch A 2", "healthy A 2"]
    );
}

#[test]
fn a_stable_that_cannot_come_back_leaves_the_traffic_where_it_is_served() {
    let mut run = aborted((2, 2));
    run.until("healthy A 2").fail("no room");
    assert_eq!(run.since("healthy A 2 FAILS"), [""; 0]);
    run.until("healthy A 2");
    run.now = run.now.plus(300 * SECOND);
    run.fail("no room");
    assert_eq!(run.end(), Outcome::NeedsOperator);
    assert_eq!(run.since("healthy A 2 FAILS"), [""; 0]);
    assert!(run.machine.report().problems[0].contains("no room"));
}

#[test]
fn a_stable_that_was_not_whole_is_asked_for_what_it_had_and_the_outcome_says_so() {
    let mut run = Run::new(plan(full()));
    run.stable = (2, 1);
    run.until("route B 100 %").answer();
    run.event(Event::AbortRequested { by: "ann".into() });
    run.until("healthy A 1").end();
    assert!(run.machine.report().stable_was_unhealthy);
}

#[test]
fn requests_do_not_return_to_a_stable_that_has_nobody_to_answer_them() {
    let mut run = Run::new(plan(full()));
    run.stable = (2, 0);
    run.until("route B 100 %").answer();
    run.event(Event::AbortRequested { by: "ann".into() });
    run.until("healthy A 1");
    run.now = run.now.plus(300 * SECOND);
    run.fail("none comes up");
    assert_eq!(run.end(), Outcome::NeedsOperator);
    assert!(!run.since("healthy A 1 FAILS").contains(&"route A 100 %"));
}

#[test]
fn a_clock_that_jumps_back_undoes_nothing() {
    let mut run = Run::new(plan(full()));
    run.until("healthy B 2");
    let before = run.machine.now;
    let effect = run.wish().unwrap().id;
    run.now = Timestamp::from_millis(5);
    run.event(Event::Done { effect, note: None });
    assert_eq!(run.machine.now, before);
}

#[test]
fn a_first_deployment_undone_closes_the_routing_and_removes_the_service() {
    let mut first = plan(full());
    first.before = None;
    first.world = Fingerprint { stable: None, held: None, routing: Routing::Closed, desired: 2 };
    let mut run = Run::new(first);
    run.stable = (0, 0);
    run.until("route B 100 %").answer();
    run.event(Event::AbortRequested { by: "ann".into() });
    run.end();
    assert_eq!(run.since("route B 100 %"), ["route closed", "test none", "drain B", "retire B"]);
    assert_eq!(run.machine.roles(), Roles::default());
}

#[test]
fn what_is_held_after_the_promotion_is_an_obligation_with_a_deadline() {
    let draft = Draft::new().launch(Weight::ALL).await_healthy(SECOND).shift(Weight::ALL).promote();
    let mut run = Run::new(plan(draft.hold(60 * SECOND)));
    assert_eq!(run.end(), Outcome::Promoted);
    let roles = run.machine.roles();
    assert_eq!(roles.held, Some(standing(Place::A, "r1")));
    assert_eq!(roles.hold_until, Some(run.now.plus(60 * SECOND)));
}

#[test]
fn a_place_that_somebody_else_uses_is_not_removed() {
    let mut run = Run::new(plan(full()));
    run.until("launch B 2");
    let effect = run.wish().unwrap().id;
    run.event(Event::Failed { effect, kind: ErrorKind::Busy, error: "place B runs r9".into() });
    assert_eq!(run.end(), Outcome::RolledBack);
    assert!(!run.calls.contains(&"retire B".to_owned()));
}

#[test]
fn a_candidate_whose_requests_could_not_be_drained_is_not_removed() {
    let mut run = aborted((2, 2));
    run.until("drain B").fail("the balancer is gone");
    assert_eq!(run.end(), Outcome::NeedsOperator);
    assert!(!run.calls.contains(&"retire B".to_owned()));
}

#[test]
fn stable_that_is_lost_again_and_again_on_the_way_back_ends_with_an_operator() {
    let mut run = Run::new(plan(full()));
    run.until("route A 90 %, B 10 %").answer();
    run.event(Event::AbortRequested { by: "ann".into() });
    for _ in 0..=moves::MOST_LOOKS {
        run.until("route A 100 %").fail("place A has no healthy target to take requests back");
    }
    assert_eq!(run.end(), Outcome::NeedsOperator);
}

#[test]
fn stable_that_is_lost_on_the_way_back_is_brought_back_before_requests_return_to_it() {
    let mut run = Run::new(plan(full()));
    run.until("route A 90 %, B 10 %").answer();
    run.event(Event::AbortRequested { by: "ann".into() });
    run.until("route A 100 %").fail("place A has no healthy target to take requests back");
    run.until("route A 100 %");
    assert_eq!(run.since("route A 100 % FAILS"), ["survey", "healthy A 2"]);
    assert_eq!(run.end(), Outcome::Aborted { by: "ann".into() });
}
