//! Rolling, canary and approvals.

use super::*;

pub(super) fn rolling(surge: u32, unavailable: u32) -> Draft {
    Draft::new().roll(crate::plan::Roll::new(surge, unavailable)).promote().retire(SECOND)
}

fn approving() -> Draft {
    Draft::new()
        .launch(Weight::ALL)
        .await_healthy(SECOND)
        .approve(60 * SECOND)
        .shift(Weight::ALL)
        .promote()
        .retire(SECOND)
}

/// A rollout that waits for somebody to approve.
fn waiting() -> Run {
    let mut run = Run::new(plan(approving()));
    run.until("healthy B 2").answer();
    assert!(!run.answer(), "nothing goes on without an approval");
    run
}

#[test]
fn a_rollout_without_its_deployer_is_undone_by_the_next() {
    let mut run = Run::new(plan(full()));
    run.until("route A 90 %, B 10 %").answer();
    run.event(Event::Recovered { by: owner() });
    assert_eq!(run.end(), Outcome::RolledBack);
}

#[test]
fn a_rollout_without_its_deployer_goes_on_where_its_plan_says_so() {
    let mut run = Run::new(plan(full().on_orphan(OnOrphan::Continue)));
    run.until("route A 90 %, B 10 %").answer();
    run.event(Event::Recovered { by: owner() });
    assert_eq!(run.end(), Outcome::Promoted);
}

#[test]
fn a_rollback_to_a_held_place_starts_nothing_and_its_undo_leaves_it_held() {
    let mut back =
        plan(Draft::new().await_healthy(SECOND).shift(Weight::ALL).promote().hold(60 * SECOND));
    back.from_held = true;
    back.world.held = Some(standing(Place::B, "r2"));
    let mut run = Run::new(back);
    run.candidate = Some((2, 2));
    run.until("route B 100 %").answer();
    run.event(Event::AbortRequested { by: "ann".into() });
    run.end();
    assert!(
        !run.calls.iter().any(|c| c.starts_with("launch") || c.starts_with("retire")),
        "{:?}",
        run.calls
    );
    assert_eq!(run.machine.roles().held, Some(standing(Place::B, "r2")));
}

#[test]
fn a_rollout_that_died_before_its_first_line_goes_on_where_its_plan_says_so() {
    let mut run = Run::new(plan(full().on_orphan(OnOrphan::Continue)));
    run.machine = Machine::new(run.machine.plan().clone(), RolloutId::new("web-1"));
    run.event(Event::Recovered { by: owner() });
    assert_eq!(run.end(), Outcome::Promoted);
}

#[test]
fn a_roll_replaces_the_tasks_one_by_one_and_the_requests_follow() {
    let mut run = Run::new(plan(rolling(1, 0)));
    assert_eq!(run.end(), Outcome::Promoted);
    let calls: Vec<_> = run.calls.iter().map(String::as_str).filter(|c| *c != "survey").collect();
    assert_eq!(
        calls,
        [
            "register",
            "launch B 1",
            "healthy B 1",
            "healthy B 1",
            "route A 50 %, B 50 %",
            "drain A 1",
            "stop A 1",
            "launch B 2",
            "healthy B 2",
            "healthy B 2",
            "route B 100 %",
            "drain A 1",
            "stop A 1",
            "healthy B 2",
            "route B 100 %",
            "healthy B 2",
            "route B 100 %",
            "decide",
            "drain A",
            "retire A",
        ]
    );
}

#[test]
fn a_roll_that_cannot_name_the_tasks_of_stable_does_not_drain_the_whole_place_for_a_batch() {
    let mut run = Run::new(plan(rolling(1, 0)));
    run.lists_stable = false;
    run.until("route B 100 %");
    assert!(!run.calls.iter().any(|call| call == "drain A"), "{:?}", run.calls);
    assert_eq!(run.end(), Outcome::Promoted);
}

#[test]
fn a_roll_that_fails_in_the_middle_rolls_back_by_the_same_bounds() {
    let mut run = Run::new(plan(rolling(1, 0)));
    run.until("healthy B 2").fail("exit code 3");
    run.candidate = Some((2, 1));
    let mut seen = Vec::new();
    while run.machine.outcome().is_none() {
        assert!(run.answer(), "stuck after {:?}", run.calls);
        seen.push(run.stable.0 + run.candidate.map_or(0, |c| c.0));
    }
    assert_eq!(run.machine.outcome(), Some(&Outcome::RolledBack));
    assert!(seen.iter().all(|total| (2..=3).contains(total)), "{seen:?}");
    assert_eq!(run.stable, (2, 2));
    assert_eq!(run.since("route A 100 %"), ["drain B", "retire B"]);
}

#[test]
fn a_look_at_stable_that_fails_while_a_roll_is_undone_starts_no_task_beyond_the_bounds() {
    let mut run = Run::new(plan(rolling(0, 1)));
    run.until("healthy B 1");
    run.event(Event::AbortRequested { by: "ann".into() });
    run.until("healthy A 1").fail("the balancer refuses to be read");
    run.end();
    let calls = run.since("healthy A 1 FAILS");
    let at = |call| calls.iter().position(|c| *c == call).unwrap();
    assert!(at("stop B 1") < at("launch A 2"), "{calls:?}");
}

#[test]
fn a_roll_whose_deployer_died_while_it_stopped_a_task_gets_another_one_on_the_way_back() {
    let mut run = Run::new(plan(rolling(1, 0)));
    run.until("stop A 1");
    // It has ended, and is there still.
    run.stable = (2, 1);
    run.event(Event::Recovered { by: owner() });
    run.until("launch A 2").until("healthy A 2");
    assert_eq!(run.end(), Outcome::RolledBack);
}

#[test]
fn a_count_that_somebody_raises_in_the_middle_of_a_roll_is_reached() {
    let mut run = Run::new(plan(rolling(1, 0)));
    run.until("stop A 1").answer();
    run.stable.0 += 3;
    run.stable.1 += 3;
    assert_eq!(run.end(), Outcome::Promoted);
    assert_eq!(run.candidate.unwrap().0, 5);
    let notes = run.machine.report().notes;
    assert_eq!(notes, ["somebody changed the desired count from 2 to 5"]);
}

#[test]
fn capacity_follows_the_share_of_a_canary() {
    let tenth = Weight::percent(10).unwrap();
    let draft = Draft::new()
        .launch(tenth)
        .await_healthy(SECOND)
        .shift(tenth)
        .launch(Weight::ALL)
        .await_healthy(SECOND)
        .shift(Weight::ALL)
        .promote()
        .retire(SECOND);
    let mut run = Run::new(plan(draft));
    run.stable = (20, 20);
    run.until("route A 90 %, B 10 %");
    assert_eq!(run.candidate, Some((2, 2)));
    assert_eq!(run.end(), Outcome::Promoted);
    assert_eq!(run.candidate, Some((20, 20)));
}

#[test]
fn an_approval_lets_the_rollout_go_on_and_is_noted() {
    let mut run = waiting();
    run.event(Event::Approved { by: "ann".into() });
    assert_eq!(run.end(), Outcome::Promoted);
    assert_eq!(run.machine.report().notes, ["approved by ann"]);
}

#[test]
fn a_refused_approval_aborts_the_rollout() {
    let mut run = waiting();
    run.event(Event::Rejected { by: "ann".into(), why: "it is Friday".into() });
    assert_eq!(run.end(), Outcome::Aborted { by: "ann".into() });
    assert!(run.machine.report().why.unwrap().contains("it is Friday"));
}

#[test]
fn an_approval_that_nobody_gives_in_time_undoes_the_rollout() {
    let mut run = waiting();
    let deadline = run.machine.effects().into_iter().find(|e| e.id.1 == DEADLINE).unwrap();
    assert_eq!(deadline.call, Call::Wait { until: run.now.plus(60 * SECOND) });
    run.event(Event::Done { effect: deadline.id, note: None });
    assert_eq!(run.end(), Outcome::RolledBack);
}

#[test]
fn a_failing_gate_ends_the_wait_for_an_approval() {
    let mut draft = approving();
    draft.steps[2] =
        Step::Approve { approver: None, within: 60 * SECOND, gates: vec![gate("errors")] };
    let mut run = Run::new(plan(draft));
    run.until("healthy B 2").answer();
    run.measurements.push_back(Measurement::fail("5 of 10 failed"));
    run.answer();
    assert_eq!(run.end(), Outcome::RolledBack);
    assert!(run.machine.report().why.unwrap().contains("5 of 10 failed"));
}

#[test]
fn a_candidate_that_dies_while_an_approval_is_awaited_is_undone() {
    let mut run = waiting();
    run.guard_says("exit code 3");
    assert_eq!(run.end(), Outcome::RolledBack);
}

#[test]
fn a_report_tells_what_the_time_of_a_roll_went_to() {
    let roll = crate::plan::Roll { min_ready: 5 * SECOND, ..crate::plan::Roll::new(1, 0) };
    let mut run = Run::new(plan(Draft::new().roll(roll).promote().retire(SECOND)));
    assert_eq!(run.end(), Outcome::Promoted);
    let report = run.machine.report();
    let step = report.steps.first().unwrap();
    let part = |name: &str| step.parts.iter().find(|part| part.name == name).unwrap().took;
    // Two batches are watched, and nothing else takes time in this world.
    assert_eq!(part("soak"), 10 * SECOND);
    assert_eq!((part("drain"), part("launch")), (Duration::ZERO, Duration::ZERO));
    let all: Duration = step.parts.iter().map(|part| part.took).sum();
    assert_eq!(all, step.ended.unwrap().since(step.began));
}
