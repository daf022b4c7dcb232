use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Plan, Step};

/// What a plan will take, told before it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Estimate {
    /// The waits that stand in the plan, with providers that answer at once.
    #[serde(rename = "least_ms", with = "crate::time::millis")]
    pub least: Duration,
    /// The same with every deadline used up.
    #[serde(rename = "most_ms", with = "crate::time::millis")]
    pub most: Duration,
    /// The greatest number of tasks at one time, with today's desired count.
    pub peak_tasks: u32,
    /// The calls that change something at a provider; what is read in between depends on how long things take.
    pub changes: u32,
    /// The number of the step after which an undo is not possible any more, only a rollback; 1 is the first.
    pub point_of_no_return: Option<usize>,
}

impl Plan {
    /// What the plan will take, with today's desired count.
    pub fn estimate(&self) -> Estimate {
        let desired = self.replicas.unwrap_or(self.world.desired);
        let held = if self.world.held.is_some() { desired } else { 0 };
        let stable = if self.world.stable.is_some() { self.world.desired } else { 0 };
        let (mut least, mut most) = (Duration::ZERO, Duration::ZERO);
        let mut now: u32 = stable.saturating_add(held);
        let (mut peak, mut changes) = (now, 0u32);
        let mut add = |shortest: Duration, longest: Duration| {
            least = least.saturating_add(shortest);
            most = most.saturating_add(longest);
        };
        let (mut launched, mut rolled, mut promoted) = (0, false, false);
        for step in &self.steps {
            match step {
                Step::Launch { share } => {
                    let count = Self::tasks(*share, desired);
                    now = now.saturating_add(count.saturating_sub(launched));
                    launched = launched.max(count);
                    // The release is registered, then launched.
                    changes += 2;
                }
                Step::AwaitHealthy { within } => {
                    add(Duration::ZERO, *within);
                    changes += u32::from(!self.is_worker());
                }
                Step::OpenTest | Step::CloseTest | Step::Shift { .. } => changes += 1,
                Step::Validate { gates } => {
                    let shortest = gates.iter().map(|g| g.judge.least()).max();
                    let longest = gates.iter().map(|g| g.judge.deadline).max();
                    add(shortest.unwrap_or_default(), longest.unwrap_or_default());
                }
                Step::Soak { time, gates } => {
                    let longest = gates.iter().map(|g| g.judge.deadline).max().unwrap_or_default();
                    let shortest = gates.iter().map(|g| g.judge.least()).max().unwrap_or_default();
                    add((*time).max(shortest), (*time).max(longest));
                }
                Step::Roll(roll) => {
                    let (surge, unavailable) = roll.bounds(desired);
                    let batches = desired.div_ceil(surge.max(unavailable).max(1));
                    let batch =
                        roll.min_ready.saturating_add(roll.within).saturating_add(roll.drain);
                    add(roll.min_ready * batches, batch * batches);
                    launched = desired;
                    now += surge;
                    // Each batch is launched, registered, shifted, drained, removed from the balancer and stopped.
                    changes += 1 + batches * if self.is_worker() { 2 } else { 6 };
                }
                Step::Approve { within, .. } => add(Duration::ZERO, *within),
                Step::Promote => promoted = true,
                Step::Hold { .. } => {}
                Step::Retire { drain, .. } => {
                    add(Duration::ZERO, drain.saturating_add(self.release.spec.stop_grace));
                    let gone = match (promoted, rolled) {
                        (false, _) => held,
                        (true, false) => stable,
                        (true, true) => 0,
                    };
                    now = now.saturating_sub(gone);
                    changes += if self.is_worker() { 1 } else { 3 };
                }
            }
            peak = peak.max(now);
            if matches!(step, Step::Roll(_)) {
                // What was rolled has replaced stable.
                now = desired;
                rolled = true;
            }
        }
        for hook in &self.hooks {
            add(Duration::ZERO, hook.within);
        }
        let promote = self.steps.iter().position(|step| *step == Step::Promote);
        Estimate {
            least,
            most,
            peak_tasks: peak,
            changes,
            point_of_no_return: promote.map(|index| index + 1),
        }
    }

    /// Whether the service has no balancer.
    pub(crate) fn is_worker(&self) -> bool {
        self.world.routing == crate::routing::Routing::None
    }
}
