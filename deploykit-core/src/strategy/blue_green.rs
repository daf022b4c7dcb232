use std::time::Duration;

use super::beside::{Beside, setters};
use super::{Context, Strategy};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Draft, GateUse, OnOrphan};
use crate::routing::Weight;

/// The new version beside the old one at full capacity, then all requests at once or in steps.
///
/// # Expected flow
/// 1. The candidate is launched with the service's whole desired count and awaited healthy.
/// 2. With [validation](Self::validate): the test route opens to the candidate, the gates must pass, the route closes.
/// 3. The requests are shifted, at once or [in steps](Self::shift_in); between steps, and in the final
///    [bake](Self::bake), the [background gates](Self::watch) are measured and the candidate's tasks are watched.
/// 4. The candidate becomes stable. The old place is [held](Self::hold) for a fast rollback, or drained and removed.
///
/// A place that an earlier rollout still holds is retired just before the promotion: until then it is kept for a rollback, and
/// counts among the tasks. Where the orchestrator has room for two places only, it is retired first.
///
/// # Guarantees
/// * Until it is promoted, any failure, abort or death of the deployer brings back the old routing, then removes the
///   candidate. No request is cut by that: the candidate is drained first.
/// * The old place keeps its whole capacity until the rollout has ended.
/// * A rollback while the old place is held is one change of the routing.
/// * A candidate that gets requests is undone when a task of it dies, when it has fewer healthy tasks than it should for
///   5 s, or none for 2 s.
///
/// # Assumptions
/// * There is room for twice the desired count.
/// * Both versions can serve side by side, and can use the same data.
/// * Requests end within the [drain deadline](Self::drain).
///
/// # Caveats
/// * A desired count that somebody raises meanwhile is followed. One that somebody lowers is not: a task of stable that is
///   gone counts as lost.
/// * Without validation and background gates the only thing that is looked at is the health of the tasks.
/// * A worker has no requests to shift, at once or in steps: old and new work at the same time from the launch on.
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
    steps: Vec<Weight>,
    between: Duration,
    beside: Beside,
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
            steps: Vec::new(),
            between: Duration::ZERO,
            beside: Beside::new(),
        }
    }

    /// These gates must pass over the test route before any live request reaches the candidate.
    pub fn validate<G: Into<GateUse>>(mut self, gates: impl IntoIterator<Item = G>) -> Self {
        self.validate = gates.into_iter().map(Into::into).collect();
        self
    }

    /// Shifts through these shares before everything, watching for `between` after each. A first deployment has nobody to
    /// share with, and shifts at once; for a worker, which gets no requests, it is refused.
    pub fn shift_in(mut self, steps: impl IntoIterator<Item = Weight>, between: Duration) -> Self {
        self.steps = steps.into_iter().collect();
        self.between = between;
        self
    }

    setters!();

    /// Refuses what would silently be left out.
    fn check(&self, context: &Context) -> Result<()> {
        if !self.beside.watch.is_empty()
            && self.beside.bake.is_zero()
            && (self.steps.is_empty() || self.between.is_zero())
        {
            return Err(Error::invalid(
                "blue-green: watch names gates, but there is no wait in which they are measured",
            )
            .with_hint("set bake, or a time between the shifts"));
        }
        if context.balancer.is_none() && !self.steps.is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "blue-green: shift_in names shares of the requests, and a worker gets none",
            )
            .with_hint(
                "leave shift_in out, with a bake to watch in; or roll a worker, in batches",
            ));
        }
        if !self.validate.is_empty()
            && context.balancer.is_some_and(|balancer| !balancer.test_route)
        {
            let service = &context.service;
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the balancer has no test route to {service} to validate over"),
            )
            .with_hint("give the service one where it is added to the balancer, or use watch and a bake instead of validate"));
        }
        Ok(())
    }
}

impl Strategy for BlueGreen {
    fn name(&self) -> &str {
        "blue-green"
    }

    fn draft(&self, context: &Context) -> Result<Draft> {
        self.check(context)?;
        let mut draft = Draft::new().on_orphan(self.beside.on_orphan);
        draft = draft.launch(Weight::ALL).await_healthy(self.beside.healthy_within);
        let test_route = context.balancer.is_some_and(|balancer| balancer.test_route);
        if !self.validate.is_empty() {
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
                    draft = draft.soak(self.between, self.beside.watch.clone());
                }
            }
            draft = draft.shift(Weight::ALL);
        }
        Ok(self.beside.end(draft, context))
    }
}
