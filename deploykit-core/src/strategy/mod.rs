//! Strategies: from a context to the steps of a plan.

mod beside;
mod blue_green;
mod canary;
mod rolling;

use std::fmt;

pub use blue_green::BlueGreen;
pub use canary::Canary;
pub use rolling::Rolling;

use crate::error::Result;
use crate::name::{Place, ServiceName};
use crate::plan::Draft;
use crate::provider::{BalancerCapability, OrchestratorCapability};

/// Writes down how a service gets from one release to the next. Pure: the same context gives the same steps.
///
/// ```
/// use deploykit_core::{Context, Draft, Result, Strategy, Weight};
/// use std::time::Duration;
///
/// /// Everything at once, nothing kept.
/// #[derive(Debug)]
/// struct Bold;
///
/// impl Strategy for Bold {
///     fn name(&self) -> &str {
///         "bold"
///     }
///     fn draft(&self, _: &Context) -> Result<Draft> {
///         Ok(Draft::new()
///             .launch(Weight::ALL)
///             .await_healthy(Duration::from_secs(60))
///             .shift(Weight::ALL)
///             .promote()
///             .retire(Duration::from_secs(30)))
///     }
/// }
/// ```
pub trait Strategy: fmt::Debug + Send + Sync {
    /// Its name in plans and reports.
    fn name(&self) -> &str;

    /// The steps.
    ///
    /// # Errors
    /// Whatever makes them impossible; `Unsupported` for what the providers lack.
    fn draft(&self, context: &Context) -> Result<Draft>;
}

impl<T: Strategy + ?Sized> Strategy for Box<T> {
    fn name(&self) -> &str {
        (**self).name()
    }
    fn draft(&self, context: &Context) -> Result<Draft> {
        (**self).draft(context)
    }
}

/// Steps that were written down for one time, whatever the service is like. They are checked as any strategy's are.
///
/// ```
/// # async fn plan(deployer: deploykit_core::Deployer) -> deploykit_core::Result<()> {
/// use deploykit_core::{Change, Draft, Weight};
/// use std::time::Duration;
///
/// let minute = Duration::from_secs(60);
/// let steps = Draft::new()
///     .launch(Weight::ALL)
///     .await_healthy(minute)
///     .shift(Weight::ALL)
///     .promote()
///     .retire(minute);
/// let plan = deployer.plan("web", &steps, Change::to("web:2")).await?;
/// # Ok(())
/// # }
/// ```
impl Strategy for Draft {
    fn name(&self) -> &str {
        "steps"
    }
    fn draft(&self, _: &Context) -> Result<Draft> {
        Ok(self.clone())
    }
}

/// What a strategy may know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Context {
    /// The service.
    pub service: ServiceName,
    /// Its desired count today.
    pub desired: u32,
    /// The place that serves; none before the first deployment.
    pub stable: Option<Place>,
    /// What the orchestrator can do.
    pub orchestrator: OrchestratorCapability,
    /// What the balancer can do; none for a worker.
    pub balancer: Option<BalancerCapability>,
}
