//! After the death of a deployer.

use super::*;

#[test]
fn recovering_what_needed_an_operator_undoes_again() {
    let mut run = Run::new(plan(full()));
    run.until("route B 100 %").answer();
    run.event(Event::AbortRequested { by: "ann".into() });
    run.until("healthy A 2");
    run.now = run.now.plus(300 * SECOND);
    run.fail("no room");
    assert_eq!(run.machine.outcome(), Some(&Outcome::NeedsOperator));
    run.event(Event::Recovered { by: owner() });
    assert_eq!(run.end(), Outcome::RolledBack);
    assert!(run.calls.contains(&"retire B".to_owned()));
}

#[test]
fn what_an_undo_could_not_do_before_its_deployer_died_is_no_problem_once_it_is_done() {
    let mut run = Run::new(plan(full()));
    run.until("route B 100 %").answer();
    run.event(Event::AbortRequested { by: "ann".into() });
    run.until("test none").fail("the balancer is gone");
    run.until("drain B");
    run.event(Event::Recovered { by: owner() });
    assert_eq!(run.end(), Outcome::Aborted { by: "ann".into() });
    assert_eq!(run.machine.report().problems, [""; 0]);
}

#[test]
fn what_a_recovered_undo_still_cannot_do_is_told_once() {
    let mut run = Run::new(plan(full()));
    run.until("route B 100 %").answer();
    run.event(Event::AbortRequested { by: "ann".into() });
    run.until("test none").fail("the balancer is gone");
    run.event(Event::Recovered { by: owner() });
    run.until("test none").fail("the balancer is gone");
    assert_eq!(run.end(), Outcome::NeedsOperator);
    assert_eq!(run.machine.report().problems, ["the balancer is gone"]);
}

#[test]
fn a_replayed_journal_wants_what_the_dead_deployer_wanted() {
    let mut run = Run::new(plan(full().on_orphan(OnOrphan::Continue)));
    loop {
        let mut replayed =
            Machine::new(plan(full().on_orphan(OnOrphan::Continue)), RolloutId::new("web-1"));
        for record in &run.journal {
            replayed.apply(record);
        }
        let changes = |machine: &Machine| -> Vec<Effect> {
            let effects = machine.effects().into_iter();
            effects.filter(|effect| !matches!(effect.call, Call::Measure { .. })).collect()
        };
        assert_eq!(changes(&replayed), changes(&run.machine), "after {:?}", run.calls);
        if !run.answer() {
            break;
        }
    }
    assert_eq!(run.machine.outcome(), Some(&Outcome::Promoted));
}

#[test]
fn a_soak_in_which_the_deployer_died_is_soaked_again_in_full() {
    let mut run = Run::new(plan(full().on_orphan(OnOrphan::Continue)));
    run.until("route A 90 %, B 10 %").answer();
    run.now = run.now.plus(3600 * SECOND);
    let again = run.now;
    run.event(Event::Recovered { by: owner() });
    run.until("route B 100 %");
    assert!(run.now.since(again) >= 30 * SECOND);
    assert_eq!(run.end(), Outcome::Promoted);
}

#[test]
fn a_release_of_which_nothing_runs_yet_is_registered_again_after_a_crash() {
    let mut run = Run::new(plan(full().on_orphan(OnOrphan::Continue)));
    run.until("launch B 2");
    run.event(Event::Recovered { by: owner() });
    run.until("launch B 2");
    assert_eq!(run.since("register"), ["survey"]);
    assert_eq!(run.calls.iter().filter(|call| *call == "register").count(), 2);
    assert_eq!(run.end(), Outcome::Promoted);
}

#[test]
fn a_promoted_rollout_without_its_deployer_is_finished_not_undone() {
    let mut run = Run::new(plan(full()));
    run.until("drain A");
    run.event(Event::Recovered { by: owner() });
    assert_eq!(run.end(), Outcome::Promoted);
}

#[test]
fn a_recovered_shift_looks_at_the_candidate_before_it_sends_requests() {
    let mut run = Run::new(plan(full().on_orphan(OnOrphan::Continue)));
    run.until("route B 100 %");
    run.event(Event::Recovered { by: owner() });
    assert_eq!(text(&run.wish().unwrap().call), "survey");
}
