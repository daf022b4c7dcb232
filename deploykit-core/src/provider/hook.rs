use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::provider::GateContext;
use crate::release::Release;

/// Runs at a point of a rollout: tells people, warms caches, migrates.
///
/// [`hook_fn`](crate::hook_fn) makes one of a closure, [`hook_of`](crate::hook_of) of a gate; with their features there
/// are `HttpHook`, which posts, and `CommandHook`, which runs a program.
#[async_trait]
pub trait Hook: fmt::Debug + Send + Sync + 'static {
    /// Runs.
    ///
    /// **Contract.** At least once at each point: a deployer that died before it wrote the end down runs it again.
    ///
    /// **Cancellation.** Dropped only when its time limit is over.
    ///
    /// **Errors.** Any error undoes the rollout; while it is undone, and after the promotion, an error is only noted.
    async fn run(&self, context: &HookContext) -> Result<()>;
}

/// Where in a rollout a hook runs. The names are those of ECS's lifecycle stages, and two more for the way back.
///
/// They come in this order, as far as a plan comes to them: without a test route there are none of its points, a worker
/// has no traffic, a first deployment nothing to clean up. In a rolling update capacity and requests move together, batch
/// by batch: those that begin with `Pre`, and `ProductionTrafficShift`, come before its first batch, those that begin with
/// `Post` after its last. A plan that never comes to the point of one of its hooks is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum Point {
    /// Before the first step.
    ReconcileService,
    /// Before the candidate's first tasks are started.
    PreScaleUp,
    /// When they are healthy.
    PostScaleUp,
    /// Before testers can reach the candidate.
    TestTrafficShift,
    /// When they can.
    PostTestTrafficShift,
    /// Before the first live requests go to the candidate.
    PreProductionTrafficShift,
    /// Before each shift of live requests.
    ProductionTrafficShift,
    /// When all live requests go to the candidate.
    PostProductionTrafficShift,
    /// After the promotion, before the old place is held or removed.
    CleanUp,
    /// Before anything is undone.
    OnUndo,
    /// When everything is undone.
    OnUndone,
}

impl Point {
    /// All points in order, those of the way back last.
    pub fn all() -> impl Iterator<Item = Self> {
        [
            Self::ReconcileService,
            Self::PreScaleUp,
            Self::PostScaleUp,
            Self::TestTrafficShift,
            Self::PostTestTrafficShift,
            Self::PreProductionTrafficShift,
            Self::ProductionTrafficShift,
            Self::PostProductionTrafficShift,
            Self::CleanUp,
            Self::OnUndo,
            Self::OnUndone,
        ]
        .into_iter()
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ReconcileService => "RECONCILE_SERVICE",
            Self::PreScaleUp => "PRE_SCALE_UP",
            Self::PostScaleUp => "POST_SCALE_UP",
            Self::TestTrafficShift => "TEST_TRAFFIC_SHIFT",
            Self::PostTestTrafficShift => "POST_TEST_TRAFFIC_SHIFT",
            Self::PreProductionTrafficShift => "PRE_PRODUCTION_TRAFFIC_SHIFT",
            Self::ProductionTrafficShift => "PRODUCTION_TRAFFIC_SHIFT",
            Self::PostProductionTrafficShift => "POST_PRODUCTION_TRAFFIC_SHIFT",
            Self::CleanUp => "CLEAN_UP",
            Self::OnUndo => "ON_UNDO",
            Self::OnUndone => "ON_UNDONE",
        })
    }
}

/// What a hook is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HookContext {
    /// Where the rollout is.
    pub point: Point,
    /// What is undone and why, at [`Point::OnUndo`] and [`Point::OnUndone`].
    pub why: Option<String>,
    /// Names and addresses, as a gate is told them.
    pub rollout: GateContext,
    /// What is rolled out.
    pub release: Release,
    /// What it replaces; none before the first deployment, or where that is not known.
    pub before: Option<Release>,
}

impl HookContext {
    /// A context, for testing a hook.
    pub fn new(point: Point, rollout: GateContext, release: Release) -> Self {
        Self { point, why: None, rollout, release, before: None }
    }
}
