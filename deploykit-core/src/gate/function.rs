use std::fmt;
use std::future::Future;

use async_trait::async_trait;

use crate::error::Result;
use crate::provider::{GateContext, HealthGate, Measurement};

/// A gate made of a function; see [`gate_fn`].
#[derive(Clone)]
pub struct FunctionGate<F>(F);

/// Makes a gate of an async function or closure.
///
/// The function keeps the contract of [`HealthGate::measure`]: it may be called any number of times, and its future may
/// be dropped while it waits.
///
/// ```
/// use deploykit_core::{Measurement, gate_fn};
///
/// async fn error_rate() -> f64 {
///     0.002
/// }
///
/// let gate = gate_fn(|context| async move {
///     let rate = error_rate().await;
///     let evidence = format!("{}: {:.1} % errors", context.service, rate * 100.0);
///     Ok(if rate < 0.01 {
///         Measurement::pass(evidence)
///     } else {
///         Measurement::fail(evidence)
///     })
/// });
/// # let _: &dyn deploykit_core::HealthGate = &gate;
/// ```
pub fn gate_fn<F, Fut>(measure: F) -> FunctionGate<F>
where
    F: Fn(GateContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Measurement>> + Send + 'static,
{
    FunctionGate(measure)
}

#[async_trait]
impl<F, Fut> HealthGate for FunctionGate<F>
where
    F: Fn(GateContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Measurement>> + Send + 'static,
{
    async fn measure(&self, context: &GateContext) -> Result<Measurement> {
        (self.0)(context.clone()).await
    }
}

impl<F> fmt::Debug for FunctionGate<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionGate").finish_non_exhaustive()
    }
}
