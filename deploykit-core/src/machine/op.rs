//! What steps and the undoing are made of.

use std::time::Duration;

use super::facts::Facts;
use crate::name::{ApproverName, Place, Role, TaskId};
use crate::plan::{GateUse, HookUse, JobUse, Plan, Step};
use crate::provider::Point;
use crate::routing::{Routing, Weight};

/// One operation: at most one change, or one wait.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Op {
    /// Make the side's release known, and name it.
    Register { side: Side },
    /// Look how many tasks are wanted, and launch those that the candidate lacks.
    Grow,
    /// Launch tasks in a place.
    Launch { place: Place, count: u32 },
    /// Look how many tasks the side needs, launch what is missing, await it healthy.
    Ensure { side: Side, within: Duration },
    /// Await tasks healthy.
    AwaitHealthy { side: Side, place: Place, count: u32, within: Duration },
    /// Await what stable lacked when the rollout began, in case it comes back: nothing else depends on it.
    AwaitLacking { place: Place, count: u32 },
    /// Set the routing.
    Route { to: Routing, undoing: bool },
    /// Set the test route.
    Test { place: Option<Place> },
    /// Wait until gates pass.
    Measure { gates: Vec<GateUse> },
    /// Wait for a time, measuring gates and watching the candidate.
    Soak { time: Duration, gates: Vec<GateUse> },
    /// The roles change.
    Promote,
    /// The old place is kept.
    Hold { time: Duration },
    /// Look, and replace the next batch of one side's tasks by the other's, until none is left.
    Roll { to: Side },
    /// Tasks of a place are stopped.
    Stop { place: Place, tasks: Vec<TaskId> },
    /// A hook runs.
    Hook(HookUse),
    /// A job is started, once.
    StartJob(Box<JobOp>),
    /// A job runs to its end.
    AwaitJob(Box<JobOp>),
    /// Somebody approves.
    Approve { approver: Option<ApproverName>, within: Duration, gates: Vec<GateUse> },
    /// The requests of tasks end; of all tasks of the place where none are named.
    Drain { place: Place, tasks: Vec<TaskId>, others: bool, within: Duration },
    /// A place is removed.
    Retire { place: Place },
}

impl Op {
    /// What a report calls it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Register { .. } => "register",
            Self::Grow | Self::Ensure { .. } | Self::Roll { .. } => "look",
            Self::Launch { .. } => "launch",
            Self::AwaitHealthy { .. } | Self::AwaitLacking { .. } => "await healthy",
            Self::Route { .. } | Self::Test { .. } => "route",
            Self::Measure { .. } => "validate",
            Self::Soak { .. } => "soak",
            Self::Promote => "promote",
            Self::Hold { .. } => "hold",
            Self::Stop { .. } | Self::Retire { .. } => "stop",
            Self::Hook(_) => "hook",
            Self::StartJob(_) | Self::AwaitJob(_) => "job",
            Self::Approve { .. } => "approve",
            Self::Drain { .. } => "drain",
        }
    }

    /// Whether gates are measured during it.
    pub(super) fn has_gates(&self) -> bool {
        matches!(self, Self::Measure { .. } | Self::Soak { .. } | Self::Approve { .. })
    }
}

/// A job at a step, or on the way back.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JobOp {
    pub(super) used: JobUse,
    /// Unique in the rollout, whatever is done again.
    pub(super) key: String,
}

/// Whose health is ensured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Candidate,
    /// On the way back; awaited patiently, since there is no other side to turn to.
    Stable,
}

/// How long the candidate is awaited again before each shift and the promotion, where the plan does not say.
const AGAIN: Duration = Duration::from_secs(60);
/// How long stable may take to come back to its capacity before requests return to it, and how long it is waited before
/// it is looked at anew: tasks may go and counts may change meanwhile.
pub(super) const COMING_BACK: Duration = Duration::from_secs(300);
pub(super) const LOOK_ANEW: Duration = Duration::from_secs(20);
/// How long the candidate's requests may take to end when it is undone, where the plan does not say: longer than
/// most, and the requests of an undone candidate are as precious as any.
const UNDO_DRAIN: Duration = Duration::from_secs(30);

/// Brings stable back to what it has to have.
pub(super) const BRING_BACK: Op = Op::Ensure { side: Side::Stable, within: LOOK_ANEW };

/// The operations of a step, with the hooks around them.
pub(super) fn of_step(plan: &Plan, index: usize, facts: &Facts) -> Vec<Op> {
    let Some(step) = plan.steps.get(index) else { return Vec::new() };
    let (before, after) = plan.points(index);
    let at = |point| at_point(plan, point, &(index + 1).to_string(), facts);
    let mut ops: Vec<Op> = before.into_iter().flat_map(at).collect();
    ops.extend(of_step_alone(plan, step, facts));
    ops.extend(after.into_iter().flat_map(at));
    ops
}

/// The hooks and then the jobs of a point. A job that has been started is awaited, and one that has ended is over, also
/// when a step begins again.
fn at_point(plan: &Plan, point: Point, number: &str, facts: &Facts) -> Vec<Op> {
    let mut ops: Vec<Op> = plan.hooks_at(point).cloned().map(Op::Hook).collect();
    for used in plan.jobs_at(point) {
        let key = format!("{}-{number}", used.job.name);
        let job = Box::new(JobOp { used: used.clone(), key });
        if facts.jobs_ended.contains(&job.key) {
            continue;
        }
        if !facts.jobs_started.contains(&job.key) {
            ops.push(Op::StartJob(job.clone()));
        }
        ops.push(Op::AwaitJob(job));
    }
    ops
}

fn of_step_alone(plan: &Plan, step: &Step, facts: &Facts) -> Vec<Op> {
    let again = Op::Ensure { side: Side::Candidate, within: within(plan).unwrap_or(AGAIN) };
    match step {
        Step::Launch { .. } => vec![Op::Register { side: Side::Candidate }, Op::Grow],
        Step::AwaitHealthy { within } => {
            vec![Op::Ensure { side: Side::Candidate, within: *within }]
        }
        Step::OpenTest => vec![Op::Test { place: Some(plan.candidate) }],
        Step::CloseTest => vec![Op::Test { place: None }],
        Step::Validate { gates } => vec![Op::Measure { gates: gates.clone() }],
        Step::Shift { weight } => {
            vec![again, Op::Route { to: towards(plan, *weight), undoing: false }]
        }
        Step::Soak { time, gates } => vec![Op::Soak { time: *time, gates: gates.clone() }],
        Step::Promote if plan.is_worker() => vec![again, Op::Promote],
        // The routing is set once more, which confirms that it still is what the shift made it.
        Step::Promote => {
            vec![again, Op::Route { to: towards(plan, Weight::ALL), undoing: false }, Op::Promote]
        }
        Step::Roll(roll) => {
            let mut ops = vec![Op::Register { side: Side::Candidate }];
            if roll.pooled && !plan.is_worker() {
                ops.push(Op::Route { to: Routing::Pooled, undoing: false });
            }
            ops.push(Op::Roll { to: Side::Candidate });
            if !plan.is_worker() {
                ops.push(again);
                ops.push(Op::Route { to: towards(plan, Weight::ALL), undoing: false });
            }
            ops
        }
        Step::Approve { approver, within, gates } => {
            let (approver, gates) = (approver.clone(), gates.clone());
            vec![Op::Approve { approver, within: *within, gates }]
        }
        Step::Hold { time } => vec![Op::Hold { time: *time }],
        Step::Retire { drain, .. } => match facts.held_place(plan) {
            Some(place) => {
                vec![all_of(place, *drain), Op::Retire { place }]
            }
            None => Vec::new(),
        },
    }
}

/// What is done to get back to how it was: traffic first, then capacity.
pub(super) fn of_undo(plan: &Plan, facts: &Facts) -> Vec<Op> {
    let candidate = plan.candidate;
    let mut ops = at_point(plan, Point::OnUndo, "undo", facts);
    if facts.roll.is_some() {
        // The way back keeps the bounds of the way forward, and the routing that lets requests follow the tasks.
        let pooled = |step: &Step| matches!(step, Step::Roll(roll) if roll.pooled);
        if facts.routing_touched && plan.steps.iter().any(pooled) {
            ops.push(Op::Route { to: Routing::Pooled, undoing: true });
        }
        ops.push(Op::Roll { to: Side::Stable });
    }
    if facts.routing_touched {
        if plan.world.stable.is_some() {
            ops.push(BRING_BACK);
        }
        ops.push(Op::Route { to: plan.world.routing.clone(), undoing: true });
    }
    if facts.test_touched {
        ops.push(Op::Test { place: None });
    }
    if facts.launched {
        ops.push(all_of(candidate, drain(plan)));
        ops.push(Op::Retire { place: candidate });
    }
    ops.extend(at_point(plan, Point::OnUndone, "undo", facts));
    ops
}

/// Drains a whole place.
fn all_of(place: Place, within: Duration) -> Op {
    Op::Drain { place, tasks: Vec::new(), others: false, within }
}

/// The routing that gives the candidate this share.
fn towards(plan: &Plan, weight: Weight) -> Routing {
    match &plan.world.stable {
        Some(stable) => Routing::split(stable.place, plan.candidate, weight),
        None => Routing::all_to(plan.candidate),
    }
}

fn within(plan: &Plan) -> Option<Duration> {
    plan.steps.iter().find_map(|step| match step {
        Step::AwaitHealthy { within } => Some(*within),
        _ => None,
    })
}

fn drain(plan: &Plan) -> Duration {
    let drains = plan.steps.iter().filter_map(|step| match step {
        Step::Retire { role: Role::Held, drain } => Some(*drain),
        _ => None,
    });
    drains.max().unwrap_or(UNDO_DRAIN)
}
