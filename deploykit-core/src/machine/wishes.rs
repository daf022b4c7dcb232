//! What the machine wants: a function of its state.

use super::effect::{Call, Change, Effect, EffectId};
use super::op::{LOOK_ANEW, Op, Side};
use super::{DEADLINE, FIRST_GATE, GUARD, LONGEST_PAUSE, MAIN, Machine, PAUSE, Phase};
use crate::name::{Place, RevisionId};
use crate::routing::{Routing, Weight};

impl Machine {
    /// What is wanted now. Whatever is not in it any more is to be cancelled, unless it is a mutation.
    pub(crate) fn effects(&self) -> Vec<Effect> {
        if self.began.is_none() || matches!(self.phase, Phase::Ended(..)) {
            return Vec::new();
        }
        let id = |part, n| EffectId(self.number, part, n);
        let mut effects = Vec::new();
        if let Some(call) = self.main_call() {
            // Only a soak's end moves with its pauses; a call in flight keeps its name.
            let n = if matches!(self.op, Some(Op::Soak { .. })) { self.pauses } else { 0 };
            effects.push(Effect { id: id(MAIN, n), call });
        }
        if let Some(Op::Approve { within, .. }) = &self.op {
            let until = self.entered.plus(*within);
            effects.push(Effect { id: id(DEADLINE, 0), call: Call::Wait { until } });
        }
        if let Some(since) = self.paused {
            let until = since.plus(LONGEST_PAUSE);
            effects.push(Effect { id: id(PAUSE, self.pauses), call: Call::Wait { until } });
        }
        let measuring = self.op.as_ref().is_some_and(Op::has_gates);
        if measuring {
            for (part, n, call) in self.gates.calls() {
                effects.push(Effect { id: id(FIRST_GATE + part, n), call });
            }
        }
        // Whenever nothing is done with it, the candidate is watched, at a pause between two operations too.
        let standing = self.op.is_none() && self.paused.is_some();
        if (measuring || standing) && self.facts.healthy > 0 {
            let guard = Call::Guard {
                place: self.plan.candidate,
                count: self.facts.healthy,
                routing: self.confirmed(),
            };
            effects.push(Effect { id: id(GUARD, 0), call: guard });
        }
        effects
    }

    pub(super) fn main_call(&self) -> Option<Call> {
        let call = match self.op.as_ref()? {
            Op::Register { side } => {
                let release = match (side, &self.plan.before) {
                    (Side::Stable, Some(before)) => before,
                    _ => &self.plan.release,
                };
                Call::Register { release: Box::new(release.clone()) }
            }
            Op::Grow | Op::Ensure { .. } | Op::Roll { .. } => Call::Survey,
            Op::Launch { place, count } => {
                let revision = self.revision_of(*place)?;
                Call::Launch { place: *place, revision, count: *count }
            }
            Op::AwaitHealthy { side, place, count, within } => Call::AwaitHealthy {
                place: *place,
                count: *count,
                serving: match side {
                    Side::Candidate if self.facts.routing_touched => self.facts.healthy.min(*count),
                    _ => 0,
                },
                until: self.entered.plus(*within),
                patient: *side == Side::Stable,
            },
            Op::AwaitLacking { place, count } => Call::AwaitHealthy {
                place: *place,
                count: *count,
                serving: 0,
                until: self.entered.plus(LOOK_ANEW),
                patient: true,
            },
            Op::Route { to, undoing } => {
                let ours = self.facts.routings.clone();
                // One that had none when the rollout began cannot be waited for.
                let stable = self.facts.stable.as_ref().filter(|stable| stable.ready > 0);
                let stable = stable.map(|stable| stable.place);
                let needs = stable.filter(|place| *undoing && to.weight(*place) != Weight::NONE);
                Call::Route(Change {
                    to: to.clone(),
                    ours,
                    leaving: undoing.then_some(self.plan.candidate),
                    needs,
                    unconfirmed: self.unconfirmed,
                })
            }
            Op::Test { place } => Call::Test { place: *place, unconfirmed: self.unconfirmed },
            Op::Hook(hook) => Call::Hook {
                hook: hook.hook.clone(),
                point: hook.point,
                why: match &self.phase {
                    Phase::Undo(why) => Some(why.text.clone()),
                    _ => None,
                },
                until: self.entered.plus(hook.within),
            },
            Op::StartJob(job) => Call::StartJob(self.job_call(job)),
            Op::AwaitJob(job) => Call::AwaitJob(self.job_call(job)),
            Op::Measure { .. } => return None,
            Op::Soak { .. } if self.waited || self.paused.is_some() => return None,
            Op::Soak { time, .. } => {
                Call::Wait { until: self.entered.plus(time.saturating_add(self.pause_time)) }
            }
            Op::Promote | Op::Hold { .. } => Call::Decide,
            Op::Drain { place, tasks, others, within } => Call::Drain {
                place: *place,
                tasks: tasks.clone(),
                others: *others,
                within: *within,
            },
            Op::Stop { place, tasks } => Call::Stop { place: *place, tasks: tasks.clone() },
            Op::Approve { approver, within, .. } => {
                Call::Ask { approver: approver.clone()?, until: self.entered.plus(*within) }
            }
            Op::Retire { place } => Call::Retire { place: *place },
        };
        Some(call)
    }

    /// The routing that this rollout has set and read back, if it has.
    fn confirmed(&self) -> Option<Routing> {
        self.facts
            .routings
            .last()
            .filter(|_| self.facts.routing_touched && !self.plan.is_worker())
            .cloned()
    }

    fn revision_of(&self, place: Place) -> Option<RevisionId> {
        if place == self.plan.candidate {
            return self.facts.revision.clone();
        }
        self.plan.world.stable.as_ref().filter(|s| s.place == place).map(|s| s.revision.clone())
    }
}
