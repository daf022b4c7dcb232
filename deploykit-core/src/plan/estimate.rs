use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{GateUse, Plan, Roll, Step};
use crate::machine::{Batch, Tasks, batch};
use crate::routing::Weight;

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
    /// The greatest number of tasks at one time, with today's desired count. A place that an earlier rollout holds counts
    /// as if it had as many tasks as serve.
    pub peak_tasks: u32,
    /// The calls that change something at a provider, where the tasks that are started together become ready together and
    /// no call has to be repeated. A task that becomes ready later than others costs one more. What is read in between
    /// depends on how long things take.
    pub changes: u32,
    /// The number of the step after which an undo is not possible any more, only a rollback; 1 is the first.
    pub point_of_no_return: Option<usize>,
}

impl Plan {
    /// What the plan will take, with today's desired count.
    pub fn estimate(&self) -> Estimate {
        let mut walk = Walk::new(self);
        for (index, step) in self.steps.iter().enumerate() {
            walk.step(step);
            walk.hooks_and_jobs(index);
        }
        // What they leave is removed at the end.
        walk.changes += u32::from(!self.jobs.is_empty());
        let promote = self.steps.iter().position(|step| *step == Step::Promote);
        Estimate {
            least: walk.least,
            most: walk.most,
            peak_tasks: walk.peak,
            changes: walk.changes,
            point_of_no_return: promote.map(|index| index + 1),
        }
    }

    /// How many tasks the service is to have, by today's numbers.
    pub(super) fn desired(&self) -> u32 {
        self.replicas.unwrap_or(self.world.desired)
    }

    /// Whether the service has no balancer.
    pub(crate) fn is_worker(&self) -> bool {
        self.world.routing == crate::routing::Routing::None
    }
}

/// A plan carried out on paper.
struct Walk<'a> {
    plan: &'a Plan,
    least: Duration,
    most: Duration,
    changes: u32,
    peak: u32,
    stable: u32,
    candidate: u32,
    held: u32,
    /// The candidate's tasks that the balancer knows.
    known: u32,
    /// The candidate's share of the requests; none where every task is equal.
    weight: Option<Weight>,
    promoted: bool,
}

impl<'a> Walk<'a> {
    fn new(plan: &'a Plan) -> Self {
        let (desired, standing) = (plan.world.desired, plan.world.stable.is_some());
        let held = if plan.world.held.is_some() { desired } else { 0 };
        // What is held and comes back is the candidate.
        let (candidate, held) = if plan.from_held { (held, 0) } else { (0, held) };
        let mut this = Self {
            plan,
            least: Duration::ZERO,
            most: Duration::ZERO,
            changes: 0,
            peak: 0,
            stable: if standing { desired } else { 0 },
            candidate,
            held,
            known: candidate,
            weight: Some(Weight::NONE),
            promoted: false,
        };
        this.tasks();
        this
    }

    fn takes(&mut self, least: Duration, most: Duration) {
        self.least = self.least.saturating_add(least);
        self.most = self.most.saturating_add(most);
    }

    /// Looks how many tasks there are now.
    fn tasks(&mut self) {
        let now = self.stable.saturating_add(self.candidate).saturating_add(self.held);
        self.peak = self.peak.max(now);
    }

    fn hooks_and_jobs(&mut self, index: usize) {
        let (before, after) = self.plan.points(index);
        let plan = self.plan;
        for point in before.into_iter().chain(after) {
            for hook in plan.hooks_at(point) {
                self.takes(Duration::ZERO, hook.within);
            }
            for used in plan.jobs_at(point) {
                self.takes(Duration::ZERO, used.job.time_limit);
                // What it runs is registered, then started.
                self.changes += 2;
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Launch { share } => {
                // The release is registered in any case.
                self.changes += 1;
                self.launch(Plan::tasks(*share, self.plan.desired()));
            }
            Step::AwaitHealthy { within } => {
                self.takes(Duration::ZERO, *within);
                self.add_targets();
            }
            Step::OpenTest | Step::CloseTest => self.changes += 1,
            Step::Shift { weight } => self.route(Some(*weight)),
            Step::Validate { gates } => {
                let (least, most) = bounds(gates);
                self.takes(least, most);
            }
            Step::Soak { time, gates } => self.soak(*time, gates),
            Step::Roll(roll) => self.roll(roll),
            Step::Approve { within, .. } => self.takes(Duration::ZERO, *within),
            Step::Promote => self.promoted = true,
            Step::Hold { .. } => {}
            Step::Retire { drain, .. } => self.retire(*drain),
        }
        self.tasks();
    }

    fn launch(&mut self, count: u32) {
        if count > self.candidate {
            self.candidate = count;
            self.changes += 1;
        }
        self.tasks();
    }

    fn add_targets(&mut self) {
        if self.candidate > self.known {
            self.known = self.candidate;
            self.changes += u32::from(!self.plan.is_worker());
        }
    }

    fn route(&mut self, weight: Option<Weight>) {
        if weight != self.weight {
            self.weight = weight;
            self.changes += u32::from(!self.plan.is_worker());
        }
    }

    fn soak(&mut self, time: Duration, gates: &[GateUse]) {
        let (least, most) = bounds(gates);
        self.takes(time.max(least), time.max(most));
    }

    /// The tasks are drained, taken from the balancer, and stopped.
    fn stop(&mut self, drain: Duration, tasks: u32) {
        if tasks == 0 {
            // It is made sure that nothing is left.
            self.changes += 1;
            return;
        }
        let grace = self.plan.release.spec.stop_grace;
        let before = self.plan.before.as_ref().map(|before| before.spec.stop_grace);
        let drain = if self.plan.is_worker() { Duration::ZERO } else { drain };
        self.takes(Duration::ZERO, drain.saturating_add(grace.max(before.unwrap_or_default())));
        self.changes += if self.plan.is_worker() { 1 } else { 3 };
    }

    fn retire(&mut self, drain: Duration) {
        let gone = if self.promoted { &mut self.stable } else { &mut self.held };
        let tasks = std::mem::take(gone);
        self.stop(drain, tasks);
    }

    /// Batch by batch, with tasks that become ready when they are awaited.
    fn roll(&mut self, roll: &Roll) {
        let desired = self.plan.desired();
        let (surge, unavailable) = roll.bounds(desired);
        // The release is registered.
        self.changes += 1;
        if roll.pooled {
            self.route(None);
        }
        loop {
            let side = |count| Tasks { desired: count, ready: count };
            let (old, new) = (side(self.stable), side(self.candidate));
            match batch(desired, surge, unavailable, old, new) {
                Batch::Start(count) => {
                    self.launch(count);
                    self.takes(Duration::ZERO, roll.within);
                    self.add_targets();
                    if !roll.min_ready.is_zero() {
                        self.share(roll, self.stable);
                        self.soak(roll.min_ready, &roll.gates);
                    }
                }
                Batch::Stop(count) => {
                    let left = self.stable.saturating_sub(count);
                    self.share(roll, left);
                    self.stop(roll.drain, count);
                    self.stable = left;
                }
                // Everybody is ready on paper.
                Batch::Await(_) | Batch::Over => break,
            }
        }
        self.route(Some(Weight::ALL));
    }

    fn share(&mut self, roll: &Roll, left: u32) {
        let share = Weight::ratio(self.candidate, self.candidate.saturating_add(left));
        if let Ok(share) = share
            && !roll.pooled
            && self.candidate > 0
        {
            self.route(Some(share));
        }
    }
}

/// How long gates that pass take at least, and how long until they have to have passed.
fn bounds(gates: &[GateUse]) -> (Duration, Duration) {
    let least = gates.iter().map(|gate| gate.judge.least()).max();
    let most = gates.iter().map(|gate| gate.judge.deadline).max();
    (least.unwrap_or_default(), most.unwrap_or_default())
}
