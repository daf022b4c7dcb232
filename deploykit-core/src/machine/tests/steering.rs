//! Pause, finish_now and abort.

use super::*;

#[test]
fn an_abort_awaits_the_change_in_flight() {
    let mut run = Run::new(plan(full()));
    run.until("launch B 2");
    run.event(Event::AbortRequested { by: "ann".into() });
    assert_eq!(text(&run.wish().unwrap().call), "launch B 2");
    run.answer();
    assert_eq!(text(&run.wish().unwrap().call), "drain B");
}

#[test]
fn an_abort_ends_a_wait_at_once() {
    let mut run = Run::new(plan(full()));
    run.until("healthy B 2");
    run.event(Event::AbortRequested { by: "ann".into() });
    assert_eq!(text(&run.wish().unwrap().call), "drain B");
}

#[test]
fn finish_now_gives_the_look_that_is_left_a_new_name_and_its_whole_deadline() {
    let mut run = Run::new(plan(full()));
    run.until("route A 90 %, B 10 %").answer();
    run.answer();
    let names =
        |run: &Run| run.machine.effects().iter().map(|effect| effect.id).collect::<Vec<_>>();
    let before = names(&run);
    run.now = run.now.plus(3600 * SECOND);
    run.event(Event::FinishRequested { by: "ann".into() });
    let guard = |id: &&EffectId| id.1 == GUARD;
    assert!(names(&run).iter().filter(|id| !guard(id)).all(|id| !before.contains(id)));
    let effects = run.machine.effects();
    let deadline = effects.iter().find_map(|e| match e.call {
        Call::Wait { until } => Some(until),
        _ => None,
    });
    assert_eq!(deadline, Some(run.now.plus(120 * SECOND)));
}

#[test]
fn a_pause_stops_the_clock_of_a_soak() {
    let mut run = Run::new(plan(
        Draft::new().launch(Weight::ALL).await_healthy(SECOND).soak(30 * SECOND, [""; 0]),
    ));
    run.until("wait");
    let end = |run: &Run| match run
        .machine
        .effects()
        .iter()
        .find(|e| e.id.1 == MAIN)
        .map(|e| e.call.clone())
    {
        Some(Call::Wait { until }) => Some(until),
        _ => None,
    };
    let before = end(&run).unwrap();
    run.event(Event::Paused { by: "ann".into() });
    assert_eq!(end(&run), None);
    run.now = run.now.plus(100 * SECOND);
    run.event(Event::Unpaused { by: "ann".into() });
    assert_eq!(end(&run), Some(before.plus(100 * SECOND)));
}

#[test]
fn nothing_new_begins_during_a_pause() {
    let mut run = Run::new(plan(full()));
    run.until("launch B 2");
    run.event(Event::Paused { by: "ann".into() });
    run.answer();
    assert!(run.machine.effects().iter().all(|e| e.id.1 == PAUSE));
    run.event(Event::Unpaused { by: "ann".into() });
    assert_eq!(run.end(), Outcome::Promoted);
}

#[test]
fn a_pause_that_nobody_ends_is_undone() {
    let mut run = Run::new(plan(full()));
    run.until("route A 90 %, B 10 %").answer();
    run.event(Event::Paused { by: "ann".into() });
    let pause = run.machine.effects().into_iter().find(|e| e.id.1 == PAUSE).unwrap();
    assert_eq!(pause.call, Call::Wait { until: run.now.plus(24 * 3600 * SECOND) });
    run.event(Event::Done { effect: pause.id, note: None });
    assert_eq!(run.end(), Outcome::RolledBack);
}

#[test]
fn finish_now_skips_the_waits_that_are_left() {
    let mut run = Run::new(plan(full()));
    run.until("route A 90 %, B 10 %").answer();
    let before = run.now;
    run.event(Event::FinishRequested { by: "ann".into() });
    assert_eq!(run.end(), Outcome::Promoted);
    assert!(run.now.since(before) < 30 * SECOND);
}

#[test]
fn finish_now_measures_every_gate_once_more_and_one_without_result_is_not_taken_for_a_pass() {
    let mut run = Run::new(plan(full()));
    run.until("route A 90 %, B 10 %").answer();
    run.event(Event::FinishRequested { by: "ann".into() });
    run.measurements.push_back(Measurement::inconclusive("no data"));
    run.answer();
    assert!(matches!(run.machine.op, Some(Op::Soak { .. })));
    run.measurements.push_back(Measurement::fail("500"));
    run.answer();
    assert_eq!(run.end(), Outcome::RolledBack);
}

#[test]
fn a_pause_leaves_the_name_of_a_change_in_flight_so_that_it_is_not_made_twice() {
    let mut run = Run::new(plan(full()));
    run.until("launch B 2");
    let before = run.wish().unwrap().id;
    run.event(Event::Paused { by: "ann".into() });
    assert_eq!(run.wish().unwrap().id, before);
}

#[test]
fn a_pause_after_the_promotion_changes_nothing() {
    let mut run = Run::new(plan(full()));
    run.until("drain A");
    run.event(Event::Paused { by: "ann".into() });
    assert!(!run.machine.is_paused());
    assert_eq!(run.end(), Outcome::Promoted);
}

#[test]
fn an_abort_that_its_deployer_did_not_live_to_carry_out_is_carried_out() {
    let mut run = Run::new(plan(full().on_orphan(OnOrphan::Continue)));
    run.until("route B 100 %");
    run.event(Event::AbortRequested { by: "ann".into() });
    run.event(Event::Recovered { by: owner() });
    assert_eq!(run.end(), Outcome::Aborted { by: "ann".into() });
    assert!(!run.calls.contains(&"route B 100 %".to_owned()));
}

#[test]
fn a_candidate_that_dies_during_a_pause_between_two_steps_is_undone() {
    let mut run = Run::new(plan(full()));
    run.until("route A 90 %, B 10 %");
    run.event(Event::Paused { by: "ann".into() });
    run.answer();
    run.guard_says("exit code 3");
    assert_eq!(run.end(), Outcome::RolledBack);
}

#[test]
fn gates_that_passed_during_a_pause_end_their_step_when_it_ends_and_in_the_journal_too() {
    let draft = || full().on_orphan(OnOrphan::Continue);
    let mut run = Run::new(plan(draft()));
    run.until("test B").answer();
    run.event(Event::Paused { by: "ann".into() });
    run.answer();
    run.answer();
    run.event(Event::Unpaused { by: "ann".into() });
    run.until("route A 90 %, B 10 %");
    let mut replayed = Machine::new(plan(draft()), RolloutId::new("web-1"));
    run.journal.iter().for_each(|record| replayed.apply(record));
    assert_eq!(replayed.step(), run.machine.step());
}
