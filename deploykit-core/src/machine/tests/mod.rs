//! The machine is tested by feeding it events: no runtime, no providers.

mod forward;
mod hooks;
mod jobs;
mod recovery;
mod speed;
mod steering;
mod strategies;
mod undo;

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
        hooks: Vec::new(),
        jobs: Vec::new(),
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
    /// What happened and is not journaled as well, for whoever wants it.
    all: Option<Vec<Record>>,
    /// The calls answered so far, waits and measurements left out.
    calls: Vec<String>,
    stable: (u32, u32),
    /// Whether a look at stable shows its tasks, and not only how many it is to have.
    lists_stable: bool,
    candidate: Option<(u32, u32)>,
    measurements: VecDeque<Measurement>,
}

impl Run {
    fn new(plan: Plan) -> Self {
        let mut run = Self {
            machine: Machine::new(plan, RolloutId::new("web-1")),
            now: Timestamp::from_millis(1_000_000),
            journal: Vec::new(),
            all: None,
            calls: Vec::new(),
            stable: (2, 2),
            lists_stable: true,
            candidate: None,
            measurements: VecDeque::new(),
        };
        run.event(Event::Begun { machine: FORMAT, by: owner() });
        run
    }

    fn event(&mut self, event: Event) {
        let record = Record { at: self.now, request: None, event };
        if self.machine.keeps(&record.event) {
            self.journal.push(record.clone());
        }
        self.machine.apply(&record);
        self.all.iter_mut().for_each(|all| all.push(record.clone()));
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
                    let mut stable = seen(Place::A, "r1", self.stable);
                    stable.tasks.retain(|_| self.lists_stable);
                    places.push(stable);
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

    /// The watch over the candidate reports trouble.
    fn guard_says(&mut self, why: &str) {
        let guard = self.machine.effects().into_iter().find(|effect| effect.id.1 == GUARD).unwrap();
        self.event(Event::Failed {
            effect: guard.id,
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
        Call::StartJob(job) => format!("start job {}", job.run.name),
        Call::AwaitJob(job) => format!("job {}", job.run.name),
        Call::Hook { point, .. } => format!("hook {point}"),
        other => other.name().into(),
    }
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
