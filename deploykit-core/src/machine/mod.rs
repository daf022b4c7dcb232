//! Interprets a plan, and its undoing. No clock, no randomness, no I/O: events in, wishes out.
//!
//! The state is a fold of the journal's records. [`Machine::effects`] is a function of the state, so a new process that
//! replays the journal wants exactly what the dead one wanted.

mod effect;
mod event;
mod facts;
mod gates;
mod jobs;
mod moves;
mod op;
mod result;
mod roll;
#[cfg(test)]
mod tests;
mod wishes;

use std::collections::VecDeque;
use std::time::Duration;

pub(crate) use effect::EffectId;
pub(crate) use effect::{Call, Change, Effect, JobCall};
pub(crate) use event::{Event, Record, Seen, Survey};
use facts::{Facts, Span};
use gates::Gates;
use op::{Op, Side};
pub(crate) use roll::{Batch, Tasks, batch};

use crate::error::ErrorKind;
use crate::name::{Place, RevisionId, RolloutId};
use crate::outcome::{Outcome, StepTime};
use crate::plan::{OnOrphan, Plan, Step};
use crate::routing::Weight;
use crate::store::Owner;
use crate::time::Timestamp;

/// A pause that nobody ends is ended by undoing, after this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// The parts of an operation: its own call, the watch over the candidate, the end of a pause, the end of an approval's
/// time; gates come after.
const MAIN: u32 = 0;
const GUARD: u32 = 1;
const PAUSE: u32 = 2;
const DEADLINE: u32 = 3;
const FIRST_GATE: u32 = 4;

/// The interpreter of one rollout.
#[derive(Debug)]
pub(crate) struct Machine {
    plan: Plan,
    rollout: RolloutId,
    now: Timestamp,
    began: Option<Timestamp>,
    phase: Phase,
    queue: VecDeque<Op>,
    op: Option<Op>,
    /// The current operation's number, and when it became current.
    number: u32,
    entered: Timestamp,
    gates: Gates,
    /// Whether a soak's own time is over.
    waited: bool,
    /// Whether, when the current operation began, an earlier change of the routing had not been confirmed.
    unconfirmed: bool,
    /// Whether the next operation has to become current.
    due: bool,
    facts: Facts,
    paused: Option<Timestamp>,
    /// How often, and how long in all, the current operation was paused.
    pauses: u32,
    pause_time: Duration,
    finishing: bool,
    /// Why to undo, as soon as the mutation in flight is answered.
    pending: Option<Why>,
    /// How many of the requests in the store have been taken.
    requests: u64,
    steps: Vec<StepTime>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Phase {
    /// Carrying out this step.
    Forward(usize),
    /// Getting back.
    Undo(Why),
    /// Over.
    Ended(Outcome, Option<String>),
}

/// Why a rollout is undone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Why {
    pub(crate) text: String,
    pub(crate) aborted_by: Option<String>,
}

impl Machine {
    pub(crate) fn new(plan: Plan, rollout: RolloutId) -> Self {
        let facts = Facts {
            routings: vec![plan.world.routing.clone()],
            revision: plan
                .world
                .held
                .as_ref()
                .filter(|_| plan.from_held)
                .map(|held| held.revision.clone()),
            ..Facts::default()
        };
        Self {
            plan,
            rollout,
            now: Timestamp::default(),
            began: None,
            phase: Phase::Forward(0),
            queue: VecDeque::new(),
            op: None,
            number: 0,
            entered: Timestamp::default(),
            gates: Gates::default(),
            waited: false,
            unconfirmed: false,
            due: false,
            facts,
            paused: None,
            pauses: 0,
            pause_time: Duration::ZERO,
            finishing: false,
            pending: None,
            requests: 0,
            steps: Vec::new(),
        }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The time of the last record.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn rollout(&self) -> &RolloutId {
        &self.rollout
    }

    pub(crate) fn revision(&self) -> Option<&RevisionId> {
        self.facts.revision.as_ref()
    }

    pub(crate) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// How many of the requests in the store have been taken.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Since when it is paused.
    pub(crate) fn paused(&self) -> Option<Timestamp> {
        self.paused
    }

    /// The step that is being carried out, by its index; none while undoing and at the end.
    pub(crate) fn step(&self) -> Option<usize> {
        match self.phase {
            Phase::Forward(index) if self.began.is_some() => Some(index),
            _ => None,
        }
    }

    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        match &self.phase {
            Phase::Ended(outcome, _) => Some(outcome),
            _ => None,
        }
    }

    /// The steps whose gates whoever takes the rollout over needs: undoing needs none.
    pub(crate) fn steps_after_recovery(&self) -> &[Step] {
        match self.phase {
            Phase::Forward(index) if self.plan.on_orphan == OnOrphan::Continue => {
                self.plan.steps.get(index..).unwrap_or_default()
            }
            _ => &[],
        }
    }

    /// Whether an event belongs into the journal before it is applied. Passes that decide nothing do not: losing them
    /// costs a few more measurements, and there are many.
    pub(crate) fn keeps(&self, event: &Event) -> bool {
        match event {
            Event::Measured { effect, measurement, .. } => {
                effect.0 == self.number
                    && self.gates.matters(effect.1.wrapping_sub(FIRST_GATE), measurement)
            }
            _ => true,
        }
    }

    /// The passes in a row of the gate that an effect measures.
    pub(crate) fn passes(&self, effect: EffectId) -> u32 {
        if effect.0 == self.number {
            self.gates.passes(effect.1.wrapping_sub(FIRST_GATE))
        } else {
            0
        }
    }

    // --- events in -------------------------------------------------------------------------------------------------

    /// Takes one record in. Answers to what is not wanted any more change nothing.
    /// Whether something is missing before this event: it answers what was not asked yet.
    pub(crate) fn lacks_what_led_to(&self, event: &Event) -> bool {
        event.effect().is_some_and(|effect| effect.0 > self.number)
    }

    pub(crate) fn apply(&mut self, record: &Record) {
        // A clock that jumps back does not undo anything.
        let now = self.now.max(record.at);
        if let (Some(op), Some(step)) = (&self.op, self.steps.last_mut()) {
            step.spend(op.name(), now.since(self.now));
        }
        self.now = now;
        if let Some(number) = record.request {
            self.requests = number.saturating_add(1);
        }
        match &record.event {
            Event::Begun { .. } => {
                if self.began.is_none() {
                    self.began = Some(self.now);
                    self.enter_step(0);
                }
            }
            Event::Recovered { by } => self.recovered(by),
            Event::Registered { effect, revision } => {
                if self.answers(*effect, MAIN) {
                    if self.op == Some(Op::Register { side: Side::Candidate }) {
                        self.facts.revision = Some(revision.clone());
                    }
                    self.next();
                }
            }
            Event::Surveyed { effect, survey } => {
                if self.answers(*effect, MAIN) {
                    self.surveyed(survey);
                }
            }
            Event::Done { effect, note } => self.done(*effect, note.as_deref()),
            Event::Failed { effect, error, kind } => {
                if effect.0 == self.number && (self.op.is_some() || effect.1 == GUARD) {
                    if *kind == ErrorKind::Busy && !self.facts.running {
                        // The place was not ours to launch in, so it is not ours to remove.
                        self.facts.launched = false;
                    }
                    if *kind == ErrorKind::Uncertain {
                        self.uncertain(error);
                    }
                    if *kind != ErrorKind::Unhealthy || !self.brings_back_first() {
                        self.failed(error.clone());
                    }
                }
            }
            Event::Measured { effect, measurement, passes_before, .. } => {
                if effect.0 == self.number {
                    let part = effect.1.wrapping_sub(FIRST_GATE);
                    self.gates.take(part, effect.2, measurement, *passes_before, self.now);
                    self.look_at_gates();
                }
            }
            Event::Paused { .. } => {
                if matches!(self.phase, Phase::Forward(_))
                    && !self.facts.promoted
                    && self.paused.is_none()
                {
                    self.paused = Some(self.now);
                    self.pauses += 1;
                }
            }
            Event::Unpaused { .. } => self.unpause(),
            Event::FinishRequested { .. } => {
                if matches!(self.phase, Phase::Forward(_)) {
                    self.finishing = true;
                    self.gates.once_more(self.now);
                    self.unpause();
                    if let Some(Op::Soak { .. }) = self.op {
                        self.waited = true;
                        self.look_at_gates();
                    }
                }
            }
            Event::Approved { by } => {
                if matches!(self.op, Some(Op::Approve { .. })) {
                    self.facts.notes.push(format!("approved by {by}"));
                    self.next();
                }
            }
            Event::Rejected { by, why } => {
                if matches!(self.op, Some(Op::Approve { .. })) {
                    let text = format!("{by} refused: {why}");
                    self.turn_back(Why { text, aborted_by: Some(by.clone()) });
                }
            }
            Event::AbortRequested { by } => {
                let text = format!("aborted by {by}");
                self.turn_back(Why { text, aborted_by: Some(by.clone()) });
            }
        }
        // A loop, because any number of soaks may be over at once.
        while std::mem::take(&mut self.due) {
            self.go_on();
        }
    }

    fn answers(&self, effect: EffectId, part: u32) -> bool {
        effect.0 == self.number && effect.1 == part && self.op.is_some()
    }

    /// Somebody takes the rollout over. While nobody was there nothing was watched or measured, and anything may have
    /// happened: what was being done is done again from its beginning, deadlines included.
    fn recovered(&mut self, by: &Owner) {
        self.began.get_or_insert(self.now);
        if let Some(rolling) = &mut self.facts.roll {
            rolling.waits = None;
        }
        let op = self.op.take();
        match self.phase.clone() {
            Phase::Ended(Outcome::NeedsOperator, why) => {
                self.facts.uncertain.clear();
                self.undo(Why { text: why.unwrap_or_default(), aborted_by: None });
            }
            Phase::Ended(..) => {}
            Phase::Undo(_) => self.undo_from_the_start(),
            Phase::Forward(_)
                if !self.facts.promoted
                    && (self.pending.is_some() || self.plan.on_orphan == OnOrphan::Undo) =>
            {
                let text = format!(
                    "its deployer ended, or lost the service, before its end; {by} took it up"
                );
                self.pending.get_or_insert(Why { text, aborted_by: None });
                self.queue = jobs::awaited(op).into_iter().collect();
                self.next();
            }
            Phase::Forward(index) => match self.plan.steps.get(index) {
                Some(_) if !self.steps.is_empty() => {
                    self.queue = op::of_step(&self.plan, index, &self.facts).into();
                    self.next();
                }
                _ => self.enter_step(index),
            },
        }
    }

    fn done(&mut self, effect: EffectId, note: Option<&str>) {
        if effect.0 != self.number {
            return;
        }
        if let Some(note) = note {
            self.facts.notes.push(note.to_owned());
        }
        if effect.1 == PAUSE && self.paused.is_some() {
            let text = "nobody ended the pause in time".to_owned();
            return self.turn_back(Why { text, aborted_by: None });
        }
        if effect.1 == DEADLINE && matches!(self.op, Some(Op::Approve { .. })) {
            return self.failed("nobody approved in time".to_owned());
        }
        match &self.op {
            Some(Op::Soak { .. }) if effect.1 == MAIN => {
                self.waited = true;
                self.look_at_gates();
            }
            Some(op) if op.has_gates() && effect.1 >= FIRST_GATE => {
                if let Some(text) = self.gates.expired(effect.1.wrapping_sub(FIRST_GATE)) {
                    self.failed(text);
                }
            }
            Some(op) if effect.1 == MAIN => {
                match op {
                    Op::Route { to, .. } => {
                        self.facts.unconfirmed = false;
                        // From here on, whatever was there before is somebody else's change.
                        self.facts.routings = vec![to.clone()];
                    }
                    Op::Test { .. } => self.facts.unconfirmed = false,
                    Op::Promote => {
                        self.facts.promoted = true;
                        self.paused = None;
                    }
                    Op::Launch { place, count } => {
                        let ours = *place == self.plan.candidate;
                        self.facts.running |= ours;
                        if let Some(rolling) = &mut self.facts.roll {
                            let side = if ours { Side::Candidate } else { Side::Stable };
                            *rolling.of(side) = Span::exactly(*count);
                        }
                    }
                    Op::Stop { place, .. } => {
                        if let Some(rolling) = &mut self.facts.roll {
                            let ours = *place == self.plan.candidate;
                            let span =
                                rolling.of(if ours { Side::Candidate } else { Side::Stable });
                            *span = Span::exactly(span.least);
                        }
                    }
                    Op::AwaitHealthy { side: Side::Candidate, count, .. } => {
                        self.facts.healthy = *count;
                    }
                    Op::StartJob(job) => self.facts.jobs_started.push(job.key.clone()),
                    Op::AwaitJob(job) => self.facts.jobs_ended.push(job.key.clone()),
                    Op::Retire { place } => self.facts.retired.push(*place),
                    Op::Hold { time } => self.hold(*time),
                    _ => {}
                }
                self.next();
            }
            _ => {}
        }
    }

    fn hold(&mut self, time: Duration) {
        let until = self.now.plus(time);
        self.facts.hold_until = Some(until);
        if let Some(place) = self.facts.held_place(&self.plan) {
            let text = format!("place {place} is held until {until}; settle removes it after that");
            self.facts.notes.push(text);
        }
    }

    fn unpause(&mut self) {
        if let Some(since) = self.paused.take() {
            self.pause_time += self.now.since(since);
            match self.op {
                None => self.next(),
                // They may have passed meanwhile, and whatever ends an operation stands in the journal.
                Some(_) => self.look_at_gates(),
            }
        }
    }

    fn surveyed(&mut self, survey: &Survey) {
        let stable = self.plan.world.stable.clone();
        let seen = stable.as_ref().and_then(|stable| survey.place(stable.place));
        if let (Some(stable), Some(seen)) = (&stable, seen)
            && seen.revision != stable.revision
        {
            return self.failed(format!(
                "place {} runs {} and ran {} before: somebody else changes this service",
                stable.place, seen.revision, stable.revision
            ));
        }
        let revision = self.facts.revision.as_ref();
        if let (Phase::Forward(_), Some(revision), Some(other)) =
            (&self.phase, revision, survey.place(self.plan.candidate))
            && other.revision != *revision
        {
            return self.failed(format!(
                "place {} was to be the candidate's and runs {}: somebody else uses it",
                other.place, other.revision
            ));
        }
        if self.facts.stable.is_none() && seen.is_none() && stable.is_some() {
            self.facts.stable_was_unhealthy = true;
        }
        if self.facts.stable.is_none()
            && let Some(seen) = seen
        {
            self.facts.stable_was_unhealthy = seen.ready < seen.desired;
            self.facts.stable = Some(seen.clone());
        }
        if let Some(Op::Roll { to }) = self.op {
            return self.rolled(to, survey);
        }
        let candidate = self.plan.candidate;
        let (place, count, within, side) = match &self.op {
            Some(Op::Ensure { side: Side::Stable, within }) => {
                let Some(stable) = &stable else {
                    return self.next();
                };
                let wanted = self.facts.stable.as_ref().map_or(1, |first| first.desired);
                let wanted = wanted.max(seen.map_or(0, |seen| seen.desired));
                // A roll knows what somebody has changed meanwhile.
                let wanted = self.facts.roll.map_or(wanted, |rolling| rolling.desired);
                (stable.place, wanted, *within, Side::Stable)
            }
            Some(Op::Ensure { side: Side::Candidate, within }) => {
                (candidate, self.count(seen), *within, Side::Candidate)
            }
            _ => (candidate, self.count(seen), Duration::ZERO, Side::Candidate),
        };
        // Where nobody replaces tasks that are gone, the desired count says more than there is.
        let has = survey.place(place).map_or(0, |seen| {
            seen.desired.min(u32::try_from(seen.tasks.len()).unwrap_or(u32::MAX))
        });
        if side == Side::Candidate {
            self.facts.needed = count;
        }
        // A stable that was not whole when the rollout began is asked for what it had, not for more; but nobody gets requests
        // who cannot answer any.
        let least = match (&self.facts.stable, side) {
            (first, Side::Stable) if self.facts.stable_was_unhealthy => {
                first.as_ref().map_or(0, |first| first.ready).max(1)
            }
            _ => count,
        };
        if least < count {
            self.await_lacking_last(place, count);
        }
        if !within.is_zero() {
            self.queue.push_front(Op::AwaitHealthy { side, place, count: least, within });
        }
        // A task that is not ready may be dead for good and count all the same; a launch leaves alone those that live.
        let lacks = side == Side::Stable && seen.is_some_and(|seen| seen.ready < least);
        if has < count || lacks {
            self.queue.push_front(Op::Launch { place, count });
            if side == Side::Stable {
                self.queue.push_front(Op::Register { side });
            }
        }
        self.next();
    }

    /// The balancer is given what comes back late, too; and an undo that can go without it is not held up by it.
    fn await_lacking_last(&mut self, place: Place, count: u32) {
        self.queue.retain(|op| !matches!(op, Op::AwaitLacking { .. }));
        if !self.plan.is_worker() {
            self.queue.push_back(Op::AwaitLacking { place, count });
        }
    }

    /// How many tasks the candidate needs, by what stable is to have now.
    fn count(&self, stable: Option<&Seen>) -> u32 {
        if let (Some(rolling), true) = (self.facts.roll, self.facts.share.is_none()) {
            return rolling.desired;
        }
        let own = self
            .plan
            .replicas
            .or_else(|| stable.map(|seen| seen.desired).filter(|desired| *desired > 0));
        Plan::tasks(self.facts.share.unwrap_or(Weight::ALL), own.unwrap_or(self.plan.world.desired))
    }

    fn look_at_gates(&mut self) {
        let (watching, over) = match &self.op {
            Some(Op::Measure { .. }) => (true, true),
            Some(Op::Soak { .. }) => (true, self.waited),
            Some(Op::Approve { .. }) => (true, false),
            _ => (false, false),
        };
        if !watching {
            return;
        }
        if let Some(text) = self.gates.failure() {
            self.failed(text);
        } else if over && self.gates.passed() && self.paused.is_none() {
            self.next();
        }
    }
}
