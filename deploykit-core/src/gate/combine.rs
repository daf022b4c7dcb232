use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use crate::error::{ErrorKind, Result};
use crate::provider::{GateContext, HealthGate, Measurement, Verdict};

/// Passes when all of its gates pass; see [`all_of`].
#[derive(Clone, Debug)]
pub struct AllOf(Vec<Arc<dyn HealthGate>>);

/// Passes when one of its gates passes; see [`any_of`].
#[derive(Clone, Debug)]
pub struct AnyOf(Vec<Arc<dyn HealthGate>>);

/// A gate that passes when all of these do.
///
/// They are measured at the same time. `Fail` beats `Inconclusive` beats `Pass`, and the first failure ends the
/// measurement, so a gate that hangs cannot hide it. A gate that returns an error is inconclusive, as is no gate at all,
/// but a mistake in the set-up of one, `Invalid`, is one of them all.
///
/// ```
/// use deploykit_core::{Measurement, TcpGate, all_of, gate_fn};
///
/// let smoke_test = gate_fn(|context| async move { Ok(Measurement::pass("42 checks")) });
/// let gate = all_of([TcpGate::new()]).and(smoke_test);
/// # let _: &dyn deploykit_core::HealthGate = &gate;
/// ```
pub fn all_of<G: HealthGate>(gates: impl IntoIterator<Item = G>) -> AllOf {
    AllOf(shared(gates))
}

/// A gate that passes when any of these does.
///
/// They are measured at the same time, and the first pass ends the measurement. Without a pass it is inconclusive if
/// any is, because that one might have passed; it fails when every one failed. A gate that returns an error is
/// inconclusive, as is no gate at all.
///
/// ```
/// use deploykit_core::{Measurement, TcpGate, any_of, gate_fn};
///
/// let smoke_test = gate_fn(|context| async move { Ok(Measurement::pass("42 checks")) });
/// let gate = any_of([TcpGate::new()]).or(smoke_test);
/// # let _: &dyn deploykit_core::HealthGate = &gate;
/// ```
pub fn any_of<G: HealthGate>(gates: impl IntoIterator<Item = G>) -> AnyOf {
    AnyOf(shared(gates))
}

impl AllOf {
    /// Adds a gate, of any type.
    #[must_use]
    pub fn and(mut self, gate: impl HealthGate) -> Self {
        self.0.push(Arc::new(gate));
        self
    }
}

impl AnyOf {
    /// Adds a gate, of any type.
    #[must_use]
    pub fn or(mut self, gate: impl HealthGate) -> Self {
        self.0.push(Arc::new(gate));
        self
    }
}

fn shared<G: HealthGate>(gates: impl IntoIterator<Item = G>) -> Vec<Arc<dyn HealthGate>> {
    gates.into_iter().map(|gate| Arc::new(gate) as Arc<dyn HealthGate>).collect()
}

/// What each gate measured, in the order of the gates; only up to the first `decisive` verdict in time.
async fn measure_until(
    decisive: Verdict,
    gates: &[Arc<dyn HealthGate>],
    context: &GateContext,
) -> Result<Vec<Measurement>> {
    let mut pending: FuturesUnordered<_> = gates
        .iter()
        .enumerate()
        .map(|(n, gate)| async move { (n, gate.measure(context).await) })
        .collect();
    let mut measured = Vec::new();
    while let Some((n, measurement)) = pending.next().await {
        let measurement = match measurement {
            // One that has to pass never will.
            Err(why) if why.kind() == ErrorKind::Invalid && decisive == Verdict::Fail => {
                return Err(why);
            }
            other => other.unwrap_or_else(|why| Measurement::inconclusive(why.report())),
        };
        let decided = measurement.verdict == decisive;
        measured.push((n, measurement));
        if decided {
            break;
        }
    }
    measured.sort_by_key(|(n, _)| *n);
    Ok(measured.into_iter().map(|(_, one)| one).collect())
}

/// This verdict, with the evidence of those that say it.
fn together(verdict: Option<Verdict>, measured: &[Measurement]) -> Measurement {
    let Some(verdict) = verdict else {
        return Measurement::inconclusive("there is no gate to measure");
    };
    let evidence: Vec<_> = measured
        .iter()
        .filter(|one| one.verdict == verdict)
        .map(|one| one.evidence.as_str())
        .collect();
    let evidence = evidence.join("; ");
    match verdict {
        Verdict::Pass => Measurement::pass(evidence),
        Verdict::Inconclusive => Measurement::inconclusive(evidence),
        Verdict::Fail => Measurement::fail(evidence),
    }
}

#[async_trait]
impl HealthGate for AllOf {
    async fn measure(&self, context: &GateContext) -> Result<Measurement> {
        let measured = measure_until(Verdict::Fail, &self.0, context).await?;
        let worst = measured.iter().map(|one| one.verdict).max();
        Ok(together(worst, &measured))
    }
}

#[async_trait]
impl HealthGate for AnyOf {
    async fn measure(&self, context: &GateContext) -> Result<Measurement> {
        let measured = measure_until(Verdict::Pass, &self.0, context).await?;
        let best = measured.iter().map(|one| one.verdict).min();
        Ok(together(best, &measured))
    }
}
