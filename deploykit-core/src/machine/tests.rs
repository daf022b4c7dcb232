//! The machine is tested by feeding it events: no runtime, no providers.

use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::error::ErrorKind;
use crate::image::{Digest, ImageRef, PinnedImage};
use crate::judge::Judge;
use crate::name::ServiceName;
use crate::name::{GateName, Place};
use crate::outcome::Roles;
use crate::plan::{Draft, FORMAT, Fingerprint, GateUse, Standing};
use crate::provider::Measurement;
use crate::release::{Release, ServiceSpec};
use crate::routing::{Routing, Weight};
use crate::store::Owner;

const SECOND: Duration = Duration::from_secs(1);

fn release(name: &str) -> Release {
    let image = PinnedImage::pushed(ImageRef::parse(name).unwrap(), Digest::of(name.as_bytes()));
    Release::new(image, ServiceSpec::http(80, "/"))
}

fn standing(place: Place, revision: &str) -> Standing {
    Standing { place, revision: revision.into() }
}

fn gate(name: &str) -> GateUse {
    GateUse::new(name).with_judge(Judge::new().with_successes(2))
}

/// Everything that blue/green can do: test route, two shifts, a soak, a bake, the old place removed.
fn full() -> Draft {
    Draft::new()
        .launch(Weight::ALL)
        .await_healthy(60 * SECOND)
        .open_test()
        .validate([gate("smoke")])
        .close_test()
        .shift(Weight::percent(10).unwrap())
        .soak(30 * SECOND, [gate("errors")])
        .shift(Weight::ALL)
        .soak(60 * SECOND, [gate("errors")])
        .promote()
        .retire(30 * SECOND)
}

fn plan(draft: Draft) -> Plan {
    Plan {
        format: FORMAT,
        service: ServiceName::new("web").unwrap(),
        strategy: "test".into(),
        release: release("web:2"),
        before: Some(release("web:1")),
        candidate: Place::B,
        from_held: false,
        back: false,
        replicas: None,
        world: Fingerprint {
            stable: Some(standing(Place::A, "r1")),
            held: None,
            routing: Routing::all_to(Place::A),
            desired: 2,
        },
        steps: draft.steps,
        on_orphan: draft.on_orphan,
    }
}

fn owner() -> Owner {
    Owner { name: "t".into(), host: "h".into(), pid: 1, since: Timestamp::default() }
}

/// A machine with a world that answers everything well, unless a test says otherwise.
struct Run {
    machine: Machine,
    now: Timestamp,
    journal: Vec<Record>,
    /// The calls answered so far, waits and measurements left out.
    calls: Vec<String>,
    stable: (u32, u32),
    candidate: Option<(u32, u32)>,
    measurements: VecDeque<Measurement>,
}

impl Run {
    fn new(plan: Plan) -> Self {
        let mut run = Self {
            machine: Machine::new(plan, RolloutId::new("web-1")),
            now: Timestamp::from_millis(1_000_000),
            journal: Vec::new(),
            calls: Vec::new(),
            stable: (2, 2),
            candidate: None,
            measurements: VecDeque::new(),
        };
        run.event(Event::Begun { machine: FORMAT, by: owner() });
        run
    }

    fn event(&mut self, event: Event) {
        let record = Record { at: self.now, event };
        if self.machine.keeps(&record.event) {
            self.journal.push(record.clone());
        }
        self.machine.apply(&record);
    }

    /// The first wish that is not a guard, the end of a pause or a gate's deadline while a gate can be measured.
    fn wish(&self) -> Option<Effect> {
        let effects = self.machine.effects();
        let measure = effects.iter().find(|e| matches!(e.call, Call::Measure { .. }));
        let main = effects.iter().find(|e| e.id.1 == MAIN);
        match (main, measure) {
            // A soak's wait ends after the measurements that are due before it.
            (Some(Effect { call: Call::Wait { until }, .. }), Some(measure)) => {
                match measure.call {
                    Call::Measure { not_before, .. } if not_before < *until => {
                        Some(measure.clone())
                    }
                    _ => main.cloned(),
                }
            }
            (Some(main), _) => Some(main.clone()),
            (None, measure) => measure.cloned(),
        }
    }

    /// Answers one wish well. False when there is none.
    fn answer(&mut self) -> bool {
        let Some(Effect { id: effect, call }) = self.wish() else {
            return false;
        };
        let event = match &call {
            Call::Register { .. } => Event::Registered { effect, revision: "r2".into() },
            Call::Survey => {
                let seen = |place, revision: &str, (desired, ready)| Seen {
                    place,
                    revision: revision.into(),
                    desired,
                    ready,
                    tasks: (0..desired).map(|n| format!("{place}{n}").as_str().into()).collect(),
                };
                let mut places = Vec::new();
                if self.stable.0 > 0 {
                    places.push(seen(Place::A, "r1", self.stable));
                }
                places.extend(self.candidate.map(|counts| seen(Place::B, "r2", counts)));
                Event::Surveyed { effect, survey: Survey { places } }
            }
            Call::Measure { gate, not_before, .. } => {
                self.now = self.now.max(*not_before);
                let measurement =
                    self.measurements.pop_front().unwrap_or_else(|| Measurement::pass("ok"));
                Event::Measured {
                    effect,
                    gate: gate.clone(),
                    measurement,
                    passes_before: self.machine.passes(effect),
                }
            }
            Call::Wait { until } => {
                self.now = self.now.max(*until);
                Event::Done { effect, note: None }
            }
            Call::Stop { place, tasks } => {
                let left = |counts: (u32, u32)| {
                    let gone = u32::try_from(tasks.len()).unwrap();
                    (counts.0 - gone, counts.1.min(counts.0 - gone))
                };
                if *place == Place::A {
                    self.stable = left(self.stable);
                } else {
                    self.candidate = self.candidate.map(left);
                }
                Event::Done { effect, note: None }
            }
            Call::Ask { .. } => Event::Approved { by: "bot".into() },
            Call::Launch { place, count, .. } => {
                if *place == Place::A {
                    self.stable = (*count, *count);
                } else {
                    self.candidate = Some((*count, *count));
                }
                Event::Done { effect, note: None }
            }
            _ => Event::Done { effect, note: None },
        };
        match &call {
            Call::Wait { .. } | Call::Measure { .. } => {}
            _ => self.calls.push(text(&call)),
        }
        self.event(event);
        true
    }

    fn fail(&mut self, why: &str) {
        let effect = self.wish().unwrap();
        self.calls.push(format!("{} FAILS", text(&effect.call)));
        self.event(Event::Failed {
            effect: effect.id,
            kind: ErrorKind::Unhealthy,
            error: why.into(),
        });
    }

    /// Answers well until this call is wanted.
    fn until(&mut self, wanted: &str) -> &mut Self {
        for _ in 0..1_000 {
            let wish = self.wish().map(|effect| text(&effect.call));
            if wish.as_deref() == Some(wanted) {
                return self;
            }
            assert!(self.answer(), "{wanted} is never wanted; calls: {:?}", self.calls);
        }
        panic!("{wanted} is never wanted; calls: {:?}", self.calls);
    }

    fn end(&mut self) -> Outcome {
        for _ in 0..1_000 {
            if let Some(outcome) = self.machine.outcome() {
                return outcome.clone();
            }
            assert!(self.answer(), "stuck after {:?}", self.calls);
        }
        panic!("no end after {:?}", self.calls);
    }

    fn since(&self, call: &str) -> Vec<&str> {
        let at = self.calls.iter().rposition(|c| c == call).map_or(0, |at| at + 1);
        self.calls[at..].iter().map(String::as_str).collect()
    }
}

fn text(call: &Call) -> String {
    match call {
        Call::Launch { place, count, .. } => format!("launch {place} {count}"),
        Call::AwaitHealthy { place, count, .. } => format!("healthy {place} {count}"),
        Call::Route(change) => format!("route {}", change.to),
        Call::Test { place: Some(place), .. } => format!("test {place}"),
        Call::Test { place: None, .. } => "test none".into(),
        Call::Drain { place, tasks, .. } if tasks.is_empty() => format!("drain {place}"),
        Call::Drain { place, tasks, .. } => format!("drain {place} {}", tasks.len()),
        Call::Stop { place, tasks } => format!("stop {place} {}", tasks.len()),
        Call::Retire { place } => format!("retire {place}"),
        other => other.name().into(),
    }
}

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
    let mut run = Run::new(plan(full()));
    run.until("route B 100 %").answer();
    run.stable = (1, 1);
    run.event(Event::AbortRequested { by: "ann".into() });
    run.end();
    assert_eq!(
        run.since("route B 100 %")[..4],
        ["survey", "register", "launch A 2", "healthy A 2"]
    );
}

#[test]
fn a_stable_that_cannot_come_back_leaves_the_traffic_where_it_is_served() {
    let mut run = Run::new(plan(full()));
    run.until("route B 100 %").answer();
    run.event(Event::AbortRequested { by: "ann".into() });
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

impl Run {
    fn count(mut self) -> usize {
        let mut count = 0;
        while self.machine.outcome().is_none() && self.answer() {
            count += 1;
        }
        count
    }
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
    let guard =
        run.machine.effects().into_iter().find(|e| matches!(e.call, Call::Guard { .. })).unwrap();
    run.event(Event::Failed {
        effect: guard.id,
        kind: ErrorKind::Unhealthy,
        error: "task died".into(),
    });
    assert_eq!(run.end(), Outcome::RolledBack);
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
fn what_is_held_after_the_promotion_is_an_obligation_with_a_deadline() {
    let draft = Draft::new().launch(Weight::ALL).await_healthy(SECOND).shift(Weight::ALL).promote();
    let mut run = Run::new(plan(draft.hold(60 * SECOND)));
    assert_eq!(run.end(), Outcome::Promoted);
    let roles = run.machine.roles();
    assert_eq!(roles.held, Some(standing(Place::A, "r1")));
    assert_eq!(roles.hold_until, Some(run.now.plus(60 * SECOND)));
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
fn a_rollout_that_died_before_its_first_line_goes_on_where_its_plan_says_so() {
    let mut run = Run::new(plan(full().on_orphan(OnOrphan::Continue)));
    run.machine = Machine::new(run.machine.plan().clone(), RolloutId::new("web-1"));
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
    let mut run = Run::new(plan(full()));
    run.until("route B 100 %").answer();
    run.event(Event::AbortRequested { by: "ann".into() });
    run.until("drain B").fail("the balancer is gone");
    assert_eq!(run.end(), Outcome::NeedsOperator);
    assert!(!run.calls.contains(&"retire B".to_owned()));
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

fn rolling(surge: u32, unavailable: u32) -> Draft {
    Draft::new().roll(crate::plan::Roll::new(surge, unavailable)).promote().retire(SECOND)
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
            "route A 50 %, B 50 %",
            "drain A 1",
            "stop A 1",
            "launch B 2",
            "healthy B 2",
            "route B 100 %",
            "drain A 1",
            "stop A 1",
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
fn a_count_that_somebody_raises_in_the_middle_of_a_roll_is_reached() {
    let mut run = Run::new(plan(rolling(1, 0)));
    run.until("stop A 1").answer();
    run.stable.0 += 3;
    run.stable.1 += 3;
    assert_eq!(run.end(), Outcome::Promoted);
    assert_eq!(run.candidate.unwrap().0, 5);
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
fn an_approval_lets_the_rollout_go_on_and_is_noted() {
    let mut run = waiting();
    run.event(Event::Approved { by: "ann".into() });
    assert_eq!(run.end(), Outcome::Promoted);
    assert_eq!(run.machine.report().notes, ["approved by ann"]);
}

#[test]
fn a_refused_approval_undoes_the_rollout() {
    let mut run = waiting();
    run.event(Event::Rejected { by: "ann".into(), why: "it is Friday".into() });
    assert_eq!(run.end(), Outcome::RolledBack);
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
