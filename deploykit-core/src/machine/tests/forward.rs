//! The way forward, gates and what others change.

use super::*;

#[test]
fn a_good_version_goes_through_the_steps_in_order() {
    let mut run = Run::new(plan(full()));
    assert_eq!(run.end(), Outcome::Promoted);
    assert_eq!(
        run.calls,
        [
            "register",
            "survey",
            "launch B 2",
            "survey",
            "healthy B 2",
            "test B",
            "test none",
            "survey",
            "healthy B 2",
            "route A 90 %, B 10 %",
            "survey",
            "healthy B 2",
            "route B 100 %",
            "survey",
            "healthy B 2",
            "route B 100 %",
            "decide",
            "drain A",
            "retire A",
        ]
    );
    let roles = run.machine.roles();
    assert_eq!(roles.stable, Some(standing(Place::B, "r2")));
    assert_eq!(roles.held, None);
}

#[test]
fn every_failure_before_the_promotion_ends_as_it_began_and_every_later_one_promoted() {
    let good = Run::new(plan(full())).count();
    let mut promoted = 0;
    for failing in 0..good {
        let mut run = Run::new(plan(full()));
        for _ in 0..failing {
            run.answer();
        }
        if matches!(
            run.wish().unwrap().call,
            Call::Measure { .. } | Call::Wait { .. } | Call::Decide
        ) {
            continue;
        }
        run.fail("broken");
        match run.end() {
            Outcome::RolledBack => {
                let routes: Vec<_> = run.calls.iter().filter(|c| c.starts_with("route")).collect();
                assert!(
                    routes.is_empty() || routes.last().unwrap().as_str() == "route A 100 %",
                    "{routes:?}"
                );
                assert_eq!(run.machine.roles().stable, Some(standing(Place::A, "r1")));
                let launched = run.calls.iter().any(|c| c.starts_with("launch B"));
                assert_eq!(launched, run.calls.contains(&"retire B".to_owned()), "{:?}", run.calls);
            }
            Outcome::Promoted => {
                promoted += 1;
                let roles = run.machine.roles();
                assert_eq!(roles.stable, Some(standing(Place::B, "r2")));
                // What could not be retired stays an obligation, due now.
                assert!(roles.held.is_some() && roles.hold_until == Some(run.now));
            }
            other => panic!("{other:?} when call {failing} failed: {:?}", run.calls),
        }
    }
    assert_eq!(promoted, 2, "draining and retiring the old place come after the promotion");
}

#[test]
fn a_desired_count_that_grows_in_the_middle_is_followed() {
    let mut run = Run::new(plan(full()));
    run.until("route A 90 %, B 10 %").answer();
    run.stable = (5, 5);
    run.until("route B 100 %");
    assert!(run.calls.ends_with(&["launch B 5".into(), "healthy B 5".into()]), "{:?}", run.calls);
}

#[test]
fn a_revision_that_somebody_else_brought_in_stops_the_rollout() {
    let mut run = Run::new(plan(full()));
    run.until("survey");
    let effect = run.wish().unwrap().id;
    let seen = Seen { place: Place::A, revision: "r9".into(), desired: 2, ready: 2, tasks: vec![] };
    run.event(Event::Surveyed { effect, survey: Survey { places: vec![seen] } });
    assert_eq!(run.end(), Outcome::RolledBack);
    assert!(run.machine.report().why.unwrap().contains("somebody else"));
}

#[test]
fn a_failing_gate_ends_a_soak_at_once() {
    let mut run = Run::new(plan(full()));
    run.until("route A 90 %, B 10 %").answer();
    let before = run.now;
    run.measurements.push_back(Measurement::fail("500"));
    run.answer();
    assert_eq!(run.now.since(before), Duration::ZERO);
    assert_eq!(run.end(), Outcome::RolledBack);
    assert!(run.machine.report().why.unwrap().contains("gate errors: 500"));
}

#[test]
fn a_soak_does_not_end_well_before_its_gates_have_passed() {
    let mut run = Run::new(plan(full()));
    run.until("route A 90 %, B 10 %").answer();
    let began = run.now;
    run.measurements.extend((0..3).map(|_| Measurement::inconclusive("no data")));
    let wait = run.machine.effects().into_iter().find(|e| e.id.1 == MAIN).unwrap();
    run.now = began.plus(30 * SECOND);
    run.event(Event::Done { effect: wait.id, note: None });
    let soaking = |run: &Run| matches!(run.machine.op, Some(Op::Soak { .. }));
    assert!(soaking(&run));
    for _ in 0..4 {
        run.answer();
        assert!(soaking(&run));
    }
    run.answer();
    assert!(!soaking(&run));
}

#[test]
fn a_gate_without_a_verdict_by_its_deadline_has_failed() {
    let mut run = Run::new(plan(full()));
    run.until("test B").answer();
    let effects = run.machine.effects();
    let deadline = effects.iter().find(|e| matches!(e.call, Call::Wait { .. })).unwrap();
    run.event(Event::Done { effect: deadline.id, note: None });
    assert_eq!(run.end(), Outcome::RolledBack);
    assert!(run.machine.report().why.unwrap().contains("no verdict within 2 min"));
}

#[test]
fn a_candidate_that_loses_tasks_while_it_is_watched_is_not_promoted() {
    let mut run = Run::new(plan(full()));
    run.until("route B 100 %").answer();
    run.guard_says("task died");
    assert_eq!(run.end(), Outcome::RolledBack);
}

#[test]
fn an_answer_to_what_is_not_wanted_any_more_changes_nothing() {
    let mut run = Run::new(plan(full()));
    run.until("launch B 2");
    let old = EffectId(0, MAIN, 0);
    let before = run.machine.effects();
    run.event(Event::Done { effect: old, note: None });
    run.event(Event::Failed { effect: old, kind: ErrorKind::Other, error: "late".into() });
    run.event(Event::Measured {
        effect: old,
        gate: GateName::new("smoke"),
        measurement: Measurement::fail("late"),
        passes_before: 0,
    });
    assert_eq!(run.machine.effects(), before);
}

#[test]
fn a_tolerated_failure_late_in_a_soak_gets_the_whole_deadline_to_pass_again() {
    let mut run = Run::new(plan(full()));
    run.until("route A 90 %, B 10 %").answer();
    run.answer();
    run.answer();
    run.now = run.now.plus(3600 * SECOND);
    run.measurements.push_back(Measurement::inconclusive("a lost packet"));
    let measure =
        run.machine.effects().into_iter().find(|e| matches!(e.call, Call::Measure { .. }));
    let effect = measure.unwrap().id;
    let measurement = Measurement::inconclusive("a lost packet");
    let passes_before = run.machine.passes(effect);
    run.event(Event::Measured { effect, gate: "errors".into(), measurement, passes_before });
    let effects = run.machine.effects();
    let deadline = effects.iter().find_map(|e| match e.call {
        Call::Wait { until } if e.id.1 > FIRST_GATE => Some(until),
        _ => None,
    });
    assert_eq!(deadline, Some(run.now.plus(120 * SECOND)));
}

#[test]
fn any_number_of_soaks_may_be_over_at_once() {
    let soak = Draft::new().launch(Weight::ALL).await_healthy(SECOND);
    let soaks = (0..9_000).fold(soak, |draft, _| draft.soak(SECOND, [""; 0]));
    let mut run = Run::new(plan(soaks.shift(Weight::ALL).promote().retire(SECOND)));
    run.until("wait");
    run.event(Event::FinishRequested { by: "ann".into() });
    assert_eq!(run.end(), Outcome::Promoted);
}

#[test]
fn a_plan_as_a_flowchart_leads_through_all_steps_and_boxes_what_is_undone_by_itself() {
    let text = plan(full()).to_mermaid();
    assert!(text.starts_with("flowchart TD\n"));
    for arrow in ["begin --> s1", "s1 --> s2", "s10 --> s11", "s11 --> done", "back --> begin"] {
        assert!(text.contains(arrow), "{arrow} is missing in\n{text}");
    }
    let boxed = &text[text.find("subgraph").unwrap()..text.find("\n  end\n").unwrap()];
    assert!(boxed.contains("10: promote") && !boxed.contains("11: retire"), "{text}");
}

#[test]
fn tasks_that_get_requests_have_to_stay_healthy_while_more_are_awaited() {
    let serving = |run: &Run| match run.wish().unwrap().call {
        Call::AwaitHealthy { serving, .. } => serving,
        other => panic!("{other:?}"),
    };
    let mut run = Run::new(plan(full()));
    assert_eq!(serving(run.until("healthy B 2")), 0);
    run.until("route A 90 %, B 10 %").answer();
    assert_eq!(serving(run.until("healthy B 2")), 2);
}
