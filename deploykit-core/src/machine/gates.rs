use super::effect::Call;
use crate::judge::Record as Judged;
use crate::plan::GateUse;
use crate::provider::{Measurement, Verdict};
use crate::time::{Timestamp, human};

/// The gates of the current operation.
#[derive(Debug, Default)]
pub(super) struct Gates(Vec<State>);

#[derive(Debug)]
struct State {
    gate: GateUse,
    judged: Judged,
    entered: Timestamp,
    /// The number of measurements so far, which names the next one.
    taken: u32,
    not_before: Timestamp,
    /// Somebody skips the waits: the next measurement decides, if it says anything.
    hurried: bool,
    /// How often the deadline began again.
    deadlines: u32,
    hurried_pass: bool,
}

impl Gates {
    pub(super) fn new(gates: Vec<GateUse>, now: Timestamp, hurried: bool) -> Self {
        let state = |gate| State {
            gate,
            judged: Judged::default(),
            entered: now,
            taken: 0,
            not_before: now,
            hurried,
            deadlines: 0,
            hurried_pass: false,
        };
        Self(gates.into_iter().map(state).collect())
    }

    /// The calls wanted: for each gate, by part, its next measurement and its deadline.
    pub(super) fn calls(&self) -> Vec<(u32, u32, Call)> {
        let mut calls = Vec::new();
        for (part, state) in (0u32..).step_by(2).zip(&self.0) {
            let GateUse { gate, judge } = &state.gate;
            let timeout = judge.timeout;
            let measure =
                Call::Measure { gate: gate.clone(), not_before: state.not_before, timeout };
            calls.push((part, state.taken, measure));
            if !state.passed() {
                let until = state.entered.plus(judge.deadline);
                calls.push((part + 1, state.deadlines, Call::Wait { until }));
            }
        }
        calls
    }

    fn state(&self, part: u32) -> Option<&State> {
        self.0.get(usize::try_from(part / 2).ok()?)
    }

    /// Takes the measurement named `n` of the gate at `part`; any other one is old news.
    pub(super) fn take(
        &mut self,
        part: u32,
        n: u32,
        measurement: &Measurement,
        passes: u32,
        now: Timestamp,
    ) {
        let Some(state) = usize::try_from(part / 2).ok().and_then(|index| self.0.get_mut(index))
        else {
            return;
        };
        // Measurements that were not kept leave gaps in a replayed journal.
        if part % 2 == 1 || n < state.taken {
            return;
        }
        state.taken = n.saturating_add(1);
        // From the beginning of one measurement to that of the next; one that took longer is followed at once.
        state.not_before = state.not_before.plus(state.gate.judge.interval).max(now);
        if state.judged.last.is_none() {
            state.not_before = now.plus(state.gate.judge.interval);
        }
        state.judged.catch_up(passes);
        let passed = state.passed();
        state.judged.take(measurement);
        state.hurried_pass = state.hurried && measurement.verdict == Verdict::Pass;
        if passed && !state.passed() {
            // What is within the limits has the whole deadline to pass again.
            state.entered = now;
            state.deadlines += 1;
        }
    }

    /// The passes in a row of the gate at `part`.
    pub(super) fn passes(&self, part: u32) -> u32 {
        self.state(part).map_or(0, |state| state.judged.in_a_row)
    }

    /// Whether a measurement has to be kept: all but passes that decide nothing.
    pub(super) fn matters(&self, part: u32, measurement: &Measurement) -> bool {
        let Some(state) = self.state(part) else {
            return false;
        };
        let mut after = state.judged.clone();
        after.take(measurement);
        let judge = &state.gate.judge;
        measurement.verdict != Verdict::Pass
            || state.hurried
            || after.verdict(judge) != state.judged.verdict(judge)
    }

    /// Somebody skips the waits: what was measured before, or is being measured, does not count as the one more look,
    /// which gets the whole deadline.
    pub(super) fn once_more(&mut self, now: Timestamp) {
        for state in &mut self.0 {
            (state.hurried, state.hurried_pass) = (true, false);
            (state.not_before, state.entered) = (now, now);
            // Another name, so that the one that waits for its interval is cancelled.
            state.taken = state.taken.saturating_add(1);
            state.deadlines += 1;
        }
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.0.iter().find(|state| state.verdict() == Verdict::Fail).map(State::text)
    }

    pub(super) fn passed(&self) -> bool {
        self.0.iter().all(State::passed)
    }

    /// The deadline of the gate at `part` is over: why that is a failure, if it is one.
    pub(super) fn expired(&self, part: u32) -> Option<String> {
        let state = self.state(part).filter(|state| part % 2 == 1 && !state.passed())?;
        Some(format!("{}; no verdict within {}", state.text(), human(state.gate.judge.deadline)))
    }
}

impl State {
    fn verdict(&self) -> Verdict {
        self.judged.verdict(&self.gate.judge)
    }

    fn passed(&self) -> bool {
        match self.verdict() {
            Verdict::Fail => false,
            _ if self.hurried => self.hurried_pass,
            verdict => verdict == Verdict::Pass,
        }
    }

    fn text(&self) -> String {
        format!("gate {}: {}", self.gate.gate, self.judged.summary(&self.gate.judge))
    }
}
