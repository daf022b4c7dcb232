use std::time::Duration;

use super::{Context, Strategy};
use crate::error::Result;
use crate::plan::{Amount, Draft, GateUse, OnOrphan, Roll};
use crate::routing::Weight;

/// The tasks of the old version replaced by those of the new one, a batch at a time.
///
/// # Expected flow
/// 1. As many new tasks are started as the surge allows, awaited healthy, and [watched](Self::min_ready).
/// 2. Requests follow the tasks; as many old ones are drained and stopped as leave enough.
/// 3. Again, until every old task is gone. Each batch is computed from what is observed then.
/// 4. The candidate becomes stable.
///
/// A place that an earlier rollout still holds is retired just before the promotion: until then it is kept for a rollback, and
/// counts among the tasks. Where the orchestrator has room for two places only, it is retired first.
///
/// # Guarantees
/// * Never more tasks than the desired count and the surge, never fewer that are ready than the desired count without the
///   unavailable; on the way back too.
/// * A batch that does not become healthy, or fails a gate, brings all old tasks back, by the same bounds.
/// * An old task is stopped when its last request has ended, or the [drain deadline](Self::drain) is over.
///
/// # Assumptions
/// * Both versions can serve side by side, and can use the same data.
///
/// # Caveats
/// * The first new task gets live requests as soon as it is healthy; there is no test route. [`Canary`](crate::Canary)
///   decides the share by itself.
/// * There is nothing to hold: a rollback is a rollout.
/// * With one task and no surge there is a gap; the numbers say so.
/// * A desired count that somebody changes meanwhile is followed. Who adds tasks to the old place as fast as they are replaced
///   ends the rollout, which is undone.
///
/// The rounding of percentages is that of Kubernetes, whose default of 25 % each is the default here.
///
/// ```
/// use deploykit_core::{Amount, Rolling};
/// use std::time::Duration;
///
/// let careful = Rolling::new().surge(1).unavailable(0).min_ready(Duration::from_secs(30)).watch(["errors"]);
/// let roomy = Rolling::new().surge(Amount::percent(50)?);
/// # Ok::<(), deploykit_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Rolling {
    roll: Roll,
    on_orphan: OnOrphan,
}

impl Default for Rolling {
    fn default() -> Self {
        Self::new()
    }
}

impl Rolling {
    /// A quarter more at most, a quarter fewer at most; 5 min to become healthy, 30 s to drain.
    pub fn new() -> Self {
        let quarter = Amount::Percent(25);
        Self { roll: Roll::new(quarter, quarter), on_orphan: OnOrphan::Undo }
    }

    /// One more, none fewer: each task is started before one is stopped.
    pub fn start_first() -> Self {
        Self::new().surge(1).unavailable(0)
    }

    /// None more, one fewer: each task is stopped before one is started. Where there is only one, requests fail meanwhile, and
    /// the plan says so.
    pub fn stop_first() -> Self {
        Self::new().surge(0).unavailable(1)
    }

    /// How many tasks there may be above the desired count.
    pub fn surge(mut self, surge: impl Into<Amount>) -> Self {
        self.roll.surge = surge.into();
        self
    }

    /// How many of the desired count may be missing or not ready.
    pub fn unavailable(mut self, unavailable: impl Into<Amount>) -> Self {
        self.roll.unavailable = unavailable.into();
        self
    }

    /// How long each batch is watched after it became healthy.
    pub fn min_ready(mut self, time: Duration) -> Self {
        self.roll.min_ready = time;
        self
    }

    /// These gates are measured while a batch is watched.
    pub fn watch<G: Into<GateUse>>(mut self, gates: impl IntoIterator<Item = G>) -> Self {
        self.roll.gates = gates.into_iter().map(Into::into).collect();
        self
    }

    /// Every healthy task of both versions is equal behind the balancer, instead of shares set by weight.
    pub fn pooled(mut self) -> Self {
        self.roll.pooled = true;
        self
    }

    /// How long requests in flight may take before an old task is stopped.
    pub fn drain(mut self, deadline: Duration) -> Self {
        self.roll.drain = deadline;
        self
    }

    /// How long a batch may take to become healthy.
    pub fn healthy_within(mut self, deadline: Duration) -> Self {
        self.roll.within = deadline;
        self
    }

    /// What is done with the rollout when its deployer dies.
    pub fn on_orphan(mut self, on_orphan: OnOrphan) -> Self {
        self.on_orphan = on_orphan;
        self
    }
}

impl Strategy for Rolling {
    fn name(&self) -> &str {
        "rolling"
    }

    fn draft(&self, context: &Context) -> Result<Draft> {
        let draft = Draft::new().on_orphan(self.on_orphan);
        if context.stable.is_some() {
            return Ok(draft.roll(self.roll.clone()).promote().retire(self.roll.drain));
        }
        // Before the first deployment there is nothing to replace.
        let draft = draft.launch(Weight::ALL).await_healthy(self.roll.within);
        let draft = if context.balancer.is_some() { draft.shift(Weight::ALL) } else { draft };
        Ok(draft.promote())
    }
}
