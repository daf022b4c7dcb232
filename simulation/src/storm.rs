//! What goes wrong: strikes the calls of every deployer of a case, and writes down what happened.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use deploykit_core::Updates;
use deploykit_testing::{Blow, Part, Tap, World};
use futures::FutureExt;

use crate::case::{Case, Fault, Harm, Side, ms};
use crate::stage::{Met, Stage};

/// Everything that goes wrong in one case. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Storm(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    world: World,
    faults: Vec<Armed>,
    /// From when on nothing strikes any more.
    calm: Option<Duration>,
    last: Option<Duration>,
    met: Met,
    /// What may have kept calls from working, all in all; none where something failed for good.
    stalled: Option<Duration>,
    killed: bool,
    trace: Option<String>,
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    pass: u32,
    times: u32,
}

/// How far one deployer has come.
#[derive(Clone, Debug)]
pub(crate) struct Watch(Arc<Mutex<Watched>>);

#[derive(Debug)]
struct Watched {
    updates: Option<Updates>,
    stage: Stage,
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap()
}

/// Until a call that was struck is made again.
const PAUSE: Duration = Duration::from_secs(5);

/// How long a call may go unanswered: images may take long to be fetched, stops and jobs have the grace period besides.
fn limit(name: &str) -> Duration {
    Duration::from_secs(match name {
        "register" => 900,
        "stop" | "retire" => 45,
        "await job" | "remove jobs" => 70,
        _ => 15,
    })
}

impl Storm {
    pub(crate) fn new(case: &Case, world: &World, traced: bool) -> Self {
        let armed = |fault: &Fault| Armed {
            pass: fault.nth.saturating_sub(1),
            times: fault.times,
            fault: fault.clone(),
        };
        Self(Arc::new(Mutex::new(Inner {
            world: world.clone(),
            faults: case.faults.iter().map(armed).collect(),
            calm: case.calm.map(ms),
            last: None,
            met: Met::default(),
            stalled: Some(Duration::ZERO),
            killed: false,
            trace: traced.then(String::new),
        })))
    }

    /// For one deployer.
    pub(crate) fn tap(&self, stage: Stage) -> (Tap, Watch) {
        let watch = Watch(Arc::new(Mutex::new(Watched { updates: None, stage })));
        let (storm, watched, tap) = (self.clone(), watch.clone(), Tap::new());
        tap.strike_by(move |name, part, writes| storm.strike(&watched, name, part, writes));
        (tap, watch)
    }

    fn strike(&self, watch: &Watch, name: &str, part: Part, writes: bool) -> Option<Blow> {
        let stage = self.look(watch);
        let mut inner = lock(&self.0);
        let now = inner.world.now();
        if inner.calm.is_some_and(|calm| now >= calm) {
            return None;
        }
        let mut struck = None;
        for armed in &mut inner.faults {
            let counts = match armed.fault.side {
                Side::Any => true,
                Side::Provider => part == Part::Provider,
                Side::Store => part == Part::Store,
                Side::Writes => writes,
            };
            if !counts || armed.fault.stage.is_some_and(|at| at != stage) || armed.times == 0 {
                continue;
            }
            if armed.pass > 0 {
                armed.pass -= 1;
            } else if struck.is_none() {
                armed.times -= 1;
                struck = Some(armed.fault.blow);
            }
        }
        let harm = struck?;
        inner.last = Some(now);
        inner.met.count(part == Part::Store, stage, harm);
        let stall = match harm {
            Harm::Fail(kind) => {
                deploykit_core::Error::new(kind, "").is_temporary().then_some(PAUSE)
            }
            Harm::Lost => Some(PAUSE),
            Harm::Hang => Some(limit(name) + PAUSE),
            Harm::Slow(time) => Some(ms(time).min(limit(name)) + PAUSE),
            Harm::KillBefore | Harm::KillAfter => Some(Duration::ZERO),
        };
        inner.stalled = inner.stalled.zip(stall).map(|(sum, stall)| sum + stall);
        inner.killed |= matches!(harm, Harm::KillBefore | Harm::KillAfter);
        inner.note(now, || format!("STRUCK at {stage:?}: {name}: {harm:?}"));
        Some(match harm {
            Harm::Fail(kind) => Blow::Fail(kind),
            Harm::Lost => Blow::Lost,
            Harm::Hang => Blow::Hang,
            Harm::Slow(time) => Blow::Slow(ms(time)),
            Harm::KillBefore => Blow::DieBefore,
            Harm::KillAfter => Blow::Die,
        })
    }

    /// Reads what a deployer has told since the last look.
    pub(crate) fn look(&self, watch: &Watch) -> Stage {
        let mut watched = lock(&watch.0);
        let Watched { updates, stage } = &mut *watched;
        let mut inner = lock(&self.0);
        while let Some(Some(Some(update))) =
            updates.as_mut().map(|updates| updates.next().now_or_never())
        {
            if let Some(now) = Stage::of(&update.kind).filter(|_| *stage != Stage::Recover) {
                *stage = now;
            }
            let now = inner.world.now();
            inner.note(now, || format!("{}", update.kind));
        }
        *stage
    }

    /// Writes down what somebody did.
    pub(crate) fn note(&self, what: impl Display) {
        let mut inner = lock(&self.0);
        let now = inner.world.now();
        inner.note(now, || what.to_string());
    }

    /// Nothing strikes from now on.
    pub(crate) fn calm(&self) {
        let mut inner = lock(&self.0);
        inner.calm = Some(inner.world.now());
    }

    /// When it struck last.
    pub(crate) fn last(&self) -> Option<Duration> {
        lock(&self.0).last
    }

    /// What it did to a deployer, and begins to count anew.
    pub(crate) fn toll(&self) -> Toll {
        let mut inner = lock(&self.0);
        let stalled = inner.stalled.replace(Duration::ZERO);
        Toll { stalled, killed: std::mem::take(&mut inner.killed) }
    }

    pub(crate) fn has_struck(&self) -> bool {
        lock(&self.0).last.is_some()
    }

    /// What was met, and the trace.
    pub(crate) fn end(&self) -> (Met, String) {
        let mut inner = lock(&self.0);
        (std::mem::take(&mut inner.met), inner.trace.take().unwrap_or_default())
    }
}

/// What the storm did to one deployer.
#[derive(Debug)]
pub(crate) struct Toll {
    /// How long its faults may have kept it; none where one does not pass.
    stalled: Option<Duration>,
    killed: bool,
}

/// Less than the two minutes for which a change is tried again.
const PASSING: Duration = Duration::from_secs(90);

impl Toll {
    /// Whether nothing happened at all.
    pub(crate) fn is_calm(&self) -> bool {
        self.stalled == Some(Duration::ZERO) && !self.killed
    }

    /// Whether nothing happened but what passes.
    pub(crate) fn has_passed(&self) -> bool {
        self.stalled.is_some_and(|stalled| stalled < PASSING)
    }
}

impl Watch {
    pub(crate) fn begin(&self, updates: Updates) {
        lock(&self.0).updates = Some(updates);
    }
}

impl Inner {
    fn note(&mut self, now: Duration, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            *trace += &format!("{:10.3} {}\n", now.as_secs_f64(), what());
        }
    }
}
