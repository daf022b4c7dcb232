use std::time::Duration;

use super::{Context, Strategy};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Draft, GateUse, OnOrphan};
use crate::routing::Weight;

/// The new version beside the old one at full capacity, then all requests at once or in steps.
///
/// # Expected flow
/// 1. What an earlier rollout still holds is retired.
/// 2. The candidate is launched with the service's whole desired count and awaited healthy.
/// 3. With [validation](Self::validate): the test route opens to the candidate, the gates must pass, the route closes.
/// 4. The requests are shifted, at once or [in steps](Self::shift_in); between steps, and in the final
///    [bake](Self::bake), the [background gates](Self::watch) are measured and the candidate's tasks are watched.
/// 5. The candidate becomes stable. The old place is [held](Self::hold) for a fast rollback, or drained and removed.
///
/// # Guarantees
/// * Until it is promoted, any failure, abort or death of the deployer brings back the old routing, then removes the
///   candidate. No request is cut by that: the candidate is drained first.
/// * The old place keeps its whole capacity until the rollout has ended.
/// * A rollback while the old place is held is one change of the routing.
///
/// # Assumptions
/// * There is room for twice the desired count.
/// * Both versions can serve side by side, and can use the same data.
/// * Requests end within the [drain deadline](Self::drain).
///
/// # Caveats
/// * Without validation and background gates the only thing that is looked at is the health of the tasks.
/// * A worker has no requests to shift: old and new work at the same time from the launch on.
/// * A held place costs its capacity until it is settled, by the next rollout or by
///   [`Deployer::settle`](crate::Deployer::settle).
///
/// ```
/// use deploykit_core::{BlueGreen, Weight};
/// use std::time::Duration;
///
/// let strategy = BlueGreen::new()
///     .validate(["smoke"])
///     .shift_in([Weight::percent(10)?, Weight::percent(50)?], Duration::from_secs(60))
///     .watch(["errors"])
///     .bake(Duration::from_secs(300))
///     .hold(Duration::from_secs(3600));
/// # Ok::<(), deploykit_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct BlueGreen {
    validate: Vec<GateUse>,
    watch: Vec<GateUse>,
    steps: Vec<Weight>,
    between: Duration,
    bake: Duration,
    hold: Duration,
    drain: Duration,
    healthy_within: Duration,
    on_orphan: OnOrphan,
}

impl Default for BlueGreen {
    fn default() -> Self {
        Self::new()
    }
}

impl BlueGreen {
    /// All at once, without gates, without a bake, nothing held; 5 min to become healthy, 30 s to drain.
    pub fn new() -> Self {
        Self {
            validate: Vec::new(),
            watch: Vec::new(),
            steps: Vec::new(),
            between: Duration::ZERO,
            bake: Duration::ZERO,
            hold: Duration::ZERO,
            drain: Duration::from_secs(30),
            healthy_within: Duration::from_secs(300),
            on_orphan: OnOrphan::Undo,
        }
    }

    /// These gates must pass over the test route before any live request reaches the candidate.
    pub fn validate<G: Into<GateUse>>(mut self, gates: impl IntoIterator<Item = G>) -> Self {
        self.validate = gates.into_iter().map(Into::into).collect();
        self
    }

    /// These gates are measured whenever the candidate gets live requests and there is a wait. The test route is closed by
    /// then: take a gate that asks each target of the candidate or a metric; one that asks the live entry mostly sees the
    /// old version while the share is small.
    pub fn watch<G: Into<GateUse>>(mut self, gates: impl IntoIterator<Item = G>) -> Self {
        self.watch = gates.into_iter().map(Into::into).collect();
        self
    }

    /// Shifts through these shares before everything, watching for `between` after each.
    pub fn shift_in(mut self, steps: impl IntoIterator<Item = Weight>, between: Duration) -> Self {
        self.steps = steps.into_iter().collect();
        self.between = between;
        self
    }

    /// How long the candidate is watched with all requests before it is promoted.
    pub fn bake(mut self, time: Duration) -> Self {
        self.bake = time;
        self
    }

    /// How long the old place is kept after the promotion.
    pub fn hold(mut self, time: Duration) -> Self {
        self.hold = time;
        self
    }

    /// How long requests in flight may take before an old task is stopped.
    pub fn drain(mut self, deadline: Duration) -> Self {
        self.drain = deadline;
        self
    }

    /// How long the candidate may take to become healthy.
    pub fn healthy_within(mut self, deadline: Duration) -> Self {
        self.healthy_within = deadline;
        self
    }

    /// What is done with the rollout when its deployer dies.
    pub fn on_orphan(mut self, on_orphan: OnOrphan) -> Self {
        self.on_orphan = on_orphan;
        self
    }
}

impl Strategy for BlueGreen {
    fn name(&self) -> &str {
        "blue-green"
    }

    fn draft(&self, context: &Context) -> Result<Draft> {
        if !self.watch.is_empty()
            && self.bake.is_zero()
            && (self.steps.is_empty() || self.between.is_zero())
        {
            return Err(Error::invalid(
                "blue-green: watch names gates, but there is no wait in which they are measured",
            )
            .with_hint("set bake, or a time between the shifts"));
        }
        let mut draft = Draft::new().on_orphan(self.on_orphan);
        draft = draft.launch(Weight::ALL).await_healthy(self.healthy_within);
        let test_route = context.balancer.is_some_and(|balancer| balancer.test_route);
        if !self.validate.is_empty() {
            if context.balancer.is_some() && !test_route {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "the balancer has no test route to validate over",
                )
                .with_hint("use watch and a bake instead of validate"));
            }
            // A worker has no routes; its gates look elsewhere.
            draft = if test_route {
                draft.open_test().validate(self.validate.clone()).close_test()
            } else {
                draft.validate(self.validate.clone())
            };
        }
        if context.balancer.is_some() {
            // Before the first deployment there is nobody to share with.
            let steps = if context.stable.is_some() { self.steps.as_slice() } else { &[] };
            for weight in steps.iter().copied().filter(|weight| *weight != Weight::ALL) {
                draft = draft.shift(weight);
                if !self.between.is_zero() {
                    draft = draft.soak(self.between, self.watch.clone());
                }
            }
            draft = draft.shift(Weight::ALL);
        }
        if !self.bake.is_zero() {
            draft = draft.soak(self.bake, self.watch.clone());
        }
        draft = draft.promote();
        Ok(if context.stable.is_none() {
            draft
        } else if self.hold.is_zero() {
            draft.retire(self.drain)
        } else {
            draft.hold(self.hold)
        })
    }
}
