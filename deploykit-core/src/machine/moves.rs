//! From one operation to the next, and back.

use super::op::{self, Op};
use super::roll::IN_VAIN;
use super::{Gates, Machine, Phase, Why};
use crate::outcome::{Outcome, StepTime};
use crate::plan::Step;
use std::time::Duration;

/// How often an undo looks at stable anew. One that only waits for it does so half as often.
pub(super) const MOST_LOOKS: u32 = 30;

impl Machine {
    pub(super) fn enter_step(&mut self, index: usize) {
        if let Some(last) = self.steps.last_mut() {
            last.ended.get_or_insert(self.now);
        }
        self.phase = Phase::Forward(index);
        match self.plan.steps.get(index) {
            Some(step) => {
                if let Step::Launch { share } = step {
                    self.facts.share = self.facts.share.max(Some(*share));
                }
                let text = self.plan.describe(index).unwrap_or_default();
                self.steps.push(StepTime::new(step.name(), text, self.now));
                self.queue = op::of_step(&self.plan, index, &self.facts).into();
                self.next();
            }
            None => self.end(Outcome::Promoted, None),
        }
    }

    /// The current operation is over; what comes next becomes current before [`apply`](Self::apply) returns.
    pub(super) fn next(&mut self) {
        self.op = None;
        self.due = true;
    }

    pub(super) fn go_on(&mut self) {
        self.number += 1;
        // Whoever has begun a job waits for its end before anything else.
        if !matches!(self.queue.front(), Some(Op::AwaitJob(_))) {
            if let Some(why) = self.pending.take() {
                return self.undo(why);
            }
            if self.paused.is_some() {
                return;
            }
        }
        let Some(op) = self.queue.pop_front() else {
            return match self.phase.clone() {
                Phase::Forward(index) => self.enter_step(index + 1),
                Phase::Undo(why) => self.undone(why),
                Phase::Ended(..) => {}
            };
        };
        self.enter(op);
    }

    pub(super) fn enter(&mut self, op: Op) {
        (self.entered, self.pauses, self.pause_time, self.waited) =
            (self.now, 0, Duration::ZERO, self.finishing);
        if matches!(op, Op::Route { .. } | Op::Test { .. }) {
            self.unconfirmed = self.facts.unconfirmed;
            self.facts.unconfirmed = true;
        }
        match &op {
            // What was held before goes on being held after an undo.
            Op::Launch { place, .. } if *place == self.plan.candidate => {
                self.facts.launched |= !self.plan.from_held;
            }
            Op::Route { to, undoing } => {
                self.facts.routing_touched |= !undoing;
                self.facts.routings.push(to.clone());
            }
            Op::Test { place } => self.facts.test_touched |= place.is_some(),
            Op::Measure { gates } | Op::Soak { gates, .. } | Op::Approve { gates, .. } => {
                self.gates = Gates::new(gates.clone(), self.now, self.finishing);
            }
            _ => {}
        }
        self.op = Some(op);
        self.look_at_gates();
    }

    /// The current operation failed for good.
    pub(super) fn failed(&mut self, text: String) {
        if self.facts.promoted {
            self.facts.notes.push(text);
            if matches!(self.op, Some(Op::Hook(_) | Op::StartJob(_) | Op::AwaitJob(_))) {
                return self.next();
            }
            // The new version serves; what is left over becomes an obligation that `settle` works off.
            self.facts.hold_until = Some(self.now);
            return self.end(Outcome::Promoted, None);
        }
        match self.phase.clone() {
            Phase::Undo(why) => {
                let place = self.plan.candidate;
                match self.op {
                    Some(Op::AwaitHealthy { .. }) if self.may_look_anew() => {
                        self.look_anew(None);
                    }
                    Some(
                        Op::Ensure { .. }
                        | Op::Roll { .. }
                        | Op::Register { .. }
                        | Op::Launch { .. }
                        | Op::AwaitHealthy { .. },
                    ) => {
                        self.facts
                            .problems
                            .push(format!("stable cannot take the requests back: {text}"));
                        self.undone(why);
                    }
                    Some(Op::Route { .. }) => {
                        self.facts.problems.push(format!(
                            "the requests could not be taken off place {place}: {text}"
                        ));
                        self.undone(why);
                    }
                    // Undoing needs none of them.
                    Some(
                        Op::AwaitLacking { .. } | Op::Hook(_) | Op::StartJob(_) | Op::AwaitJob(_),
                    ) => {
                        self.facts.notes.push(text);
                        self.next();
                    }
                    Some(Op::Drain { .. }) => {
                        self.facts
                            .problems
                            .push(format!("place {place} could not be drained: {text}"));
                        self.undone(why);
                    }
                    _ => {
                        self.facts.problems.push(text);
                        self.next();
                    }
                }
            }
            Phase::Forward(_) => {
                let pending = self.pending.take();
                self.op = None;
                self.undo(pending.unwrap_or(Why { text, aborted_by: None }));
            }
            Phase::Ended(..) => {}
        }
    }

    /// On the way back stable was well, and is not any more: it is brought back before anything else is taken from it.
    pub(super) fn brings_back_first(&mut self) -> bool {
        let can = matches!(self.phase, Phase::Undo(_)) && self.may_look_anew();
        match self
            .op
            .take_if(|op| can && matches!(op, Op::Route { .. } | Op::Drain { others: true, .. }))
        {
            Some(op) => self.look_anew(Some(op)),
            None => return false,
        }
        true
    }

    /// What fails at once at each look must not be looked at as fast as the provider answers.
    fn may_look_anew(&self) -> bool {
        self.now < self.facts.stable_until && self.facts.looked_anew < MOST_LOOKS
    }

    /// Looks at stable again, brings it back, and goes on with this. A roll does so by itself, and knows its bounds.
    fn look_anew(&mut self, then: Option<Op>) {
        self.facts.looked_anew += 1;
        let roll = |op: &Op| matches!(op, Op::Roll { .. });
        match self.queue.iter().position(roll) {
            Some(at) => {
                self.queue.drain(..at);
                let in_vain = then.is_none() && self.now.since(self.entered) >= IN_VAIN;
                self.facts.roll.iter_mut().for_each(|rolling| rolling.cramped |= in_vain);
            }
            None => {
                then.into_iter().for_each(|op| self.queue.push_front(op));
                self.queue.push_front(op::BRING_BACK);
            }
        }
        self.next();
    }

    /// Undoes, at once or as soon as the mutation in flight is answered.
    pub(super) fn turn_back(&mut self, why: Why) {
        if !matches!(self.phase, Phase::Forward(_)) || self.facts.promoted {
            return;
        }
        self.paused = None;
        let mutating = self.main_call().is_some_and(|call| call.is_mutation());
        if mutating && self.op != Some(Op::Promote) {
            self.pending.get_or_insert(why);
        } else {
            self.undo(why);
        }
    }

    pub(super) fn undo(&mut self, why: Why) {
        if let Some(last) = self.steps.last_mut() {
            last.ended.get_or_insert(self.now);
        }
        let text = "back to how it was".to_owned();
        self.steps.push(StepTime::new("undo", text, self.now));
        self.paused = None;
        self.phase = Phase::Undo(why);
        self.undo_from_the_start();
    }

    /// Whatever an earlier attempt could not do is tried again.
    pub(super) fn undo_from_the_start(&mut self) {
        self.facts.problems.clear();
        if let Some(rolling) = &mut self.facts.roll {
            // It is the other side that goes now.
            (rolling.fewest, rolling.added, rolling.waits) = (None, 0, None);
            rolling.cramped = false;
        }
        self.facts.stable_until = self.now.plus(op::COMING_BACK);
        self.facts.looked_anew = 0;
        self.queue = op::of_undo(&self.plan, &self.facts).into();
        self.next();
    }

    pub(super) fn undone(&mut self, why: Why) {
        if self.facts.uncertain.is_empty() && self.facts.problems.is_empty() {
            let outcome = match why.aborted_by {
                Some(by) => Outcome::Aborted { by },
                None => Outcome::RolledBack,
            };
            self.end(outcome, Some(why.text));
        } else {
            self.end(Outcome::NeedsOperator, Some(why.text));
        }
    }

    pub(super) fn end(&mut self, outcome: Outcome, why: Option<String>) {
        if let Some(last) = self.steps.last_mut() {
            last.ended.get_or_insert(self.now);
        }
        self.op = None;
        self.queue.clear();
        self.number += 1;
        self.phase = Phase::Ended(outcome, why);
    }
}
