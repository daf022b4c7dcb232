use std::fmt;

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::provider::{HealthGate, Hook, HookContext, Verdict};

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
