use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::provider::{GateContext, HealthGate, Verdict};

/// Runs at a point of a rollout: tells people, warms caches, migrates.
#[async_trait]
pub trait Hook: fmt::Debug + Send + Sync + 'static {
    /// Runs.
    ///
    /// **Contract.** At least once at each point: a deployer that died before it wrote the end down runs it again.
    /// **Cancellation.** Dropped only when its time limit is over. **Errors.** Whatever fails undoes the rollout; while it
    /// is undone, and after the promotion, it is only noted.
    async fn run(&self, context: &HookContext) -> Result<()>;
}

/// Where in a rollout a hook runs. The names are those of ECS's lifecycle stages, and two more for the way back.
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
}

impl HookContext {
    /// A context, for testing a hook.
    pub fn new(point: Point, rollout: GateContext) -> Self {
        Self { point, why: None, rollout }
    }
}

/// A hook made of a function; see [`hook_fn`].
#[derive(Clone)]
pub struct FunctionHook<F>(F);

/// Makes a hook of an async function or closure.
///
/// ```
/// use deploykit_core::hook_fn;
///
/// let announce = hook_fn(|context| async move {
///     println!("{} is at {}", context.rollout.rollout, context.point);
///     Ok(())
/// });
/// # let _: &dyn deploykit_core::Hook = &announce;
/// ```
pub fn hook_fn<F, Fut>(run: F) -> FunctionHook<F>
where
    F: Fn(HookContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    FunctionHook(run)
}

#[async_trait]
impl<F, Fut> Hook for FunctionHook<F>
where
    F: Fn(HookContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    async fn run(&self, context: &HookContext) -> Result<()> {
        (self.0)(context.clone()).await
    }
}

impl<F> fmt::Debug for FunctionHook<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionHook").finish_non_exhaustive()
    }
}

/// A gate that is run as a hook; see [`hook_of`].
#[derive(Clone, Debug)]
pub struct GateHook<G>(G);

/// Makes a hook of a gate: one measurement, and whatever is not a pass is an error. So a command or a request over HTTP
/// becomes a hook.
pub fn hook_of<G: HealthGate>(gate: G) -> GateHook<G> {
    GateHook(gate)
}

#[async_trait]
impl<G: HealthGate> Hook for GateHook<G> {
    async fn run(&self, context: &HookContext) -> Result<()> {
        let measurement = self.0.measure(&context.rollout).await?;
        match measurement.verdict {
            Verdict::Pass => Ok(()),
            _ => Err(Error::new(ErrorKind::Other, measurement.evidence)),
        }
    }
}
