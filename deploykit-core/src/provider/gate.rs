use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::name::{Place, RevisionId, RolloutId, ServiceName};
use crate::provider::Entry;

/// Measures whether a version is good. What follows from measurements is the [`Judge`](crate::Judge)'s decision, not the
/// gate's.
///
/// ```
/// use deploykit_core::{GateContext, HealthGate, Measurement, Result, async_trait};
///
/// /// Good when the queue of the service is short.
/// #[derive(Debug)]
/// struct ShortQueue(std::sync::Arc<std::sync::atomic::AtomicU64>);
///
/// #[async_trait]
/// impl HealthGate for ShortQueue {
///     async fn measure(&self, _: &GateContext) -> Result<Measurement> {
///         let waiting = self.0.load(std::sync::atomic::Ordering::Relaxed);
///         let evidence = format!("{waiting} jobs wait");
///         Ok(if waiting < 100 { Measurement::pass(evidence) } else { Measurement::fail(evidence) })
///     }
/// }
/// ```
#[async_trait]
pub trait HealthGate: fmt::Debug + Send + Sync + 'static {
    /// Takes one measurement.
    ///
    /// **Contract.** Changes nothing. May be called any number of times, and be dropped while it waits: the judge's
    /// time-out does so.
    ///
    /// **Errors.** An error is no measurement: it counts as [`Verdict::Inconclusive`], never as a pass. `Invalid` is a
    /// mistake in the gate's set-up, which no further measurement mends: it fails the rollout at once. A version that was
    /// measured and found bad is `Ok` with [`Verdict::Fail`].
    async fn measure(&self, context: &GateContext) -> Result<Measurement>;
}

/// What a gate is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GateContext {
    /// The service.
    pub service: ServiceName,
    /// The rollout in progress.
    pub rollout: RolloutId,
    /// The place of the new version.
    pub candidate: Place,
    /// The new version.
    pub revision: RevisionId,
    /// The place of the version that it replaces, if there is one.
    pub stable: Option<Place>,
    /// How live requests reach the service; none for a worker.
    pub entry: Option<Entry>,
    /// How testers reach the candidate; none while no test route is open.
    pub test_entry: Option<Entry>,
    /// `host:port` of each task of the candidate that takes requests.
    pub targets: Vec<String>,
}

impl GateContext {
    /// A context without addresses, for testing a gate.
    pub fn new(
        service: ServiceName,
        rollout: RolloutId,
        candidate: Place,
        revision: RevisionId,
    ) -> Self {
        Self {
            service,
            rollout,
            candidate,
            revision,
            stable: None,
            entry: None,
            test_entry: None,
            targets: Vec::new(),
        }
    }
}

/// One measurement, with what it saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Measurement {
    /// What it says.
    pub verdict: Verdict,
    /// What was seen, for people: `GET /health answered 500 in 12 ms`. No secrets: it is written to the journal.
    pub evidence: String,
}

impl Measurement {
    /// Good.
    pub fn pass(evidence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Pass, evidence: evidence.into() }
    }

    /// Bad.
    pub fn fail(evidence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, evidence: evidence.into() }
    }

    /// What the measurements of each target of the candidate say together: the worst of them, and how many say so. Without
    /// any it is inconclusive. `what` says for people what was measured.
    pub fn of_targets(what: &str, measured: &[Self]) -> Self {
        let Some(verdict) = measured.iter().map(|one| one.verdict).max() else {
            let nobody = format!("{what}: the candidate has no target that takes requests");
            return Self::inconclusive(nobody);
        };
        let mut alike = measured.iter().filter(|one| one.verdict == verdict);
        let first = alike.next().map_or("", |one| &one.evidence);
        let evidence = match (measured.len(), 1 + alike.count()) {
            (1, _) => first.to_owned(),
            (all, _) if verdict == Verdict::Pass => format!("{first} (all {all} targets passed)"),
            (all, alike) => format!("{first} ({alike} of {all} targets)"),
        };
        Self { verdict, evidence }
    }

    /// Neither: no data, or the measuring itself failed.
    pub fn inconclusive(evidence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Inconclusive, evidence: evidence.into() }
    }
}

/// What measurements say. Ordered so that the greatest of several is the one that counts: `Fail` beats `Inconclusive`
/// beats `Pass`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Good.
    Pass,
    /// Not known; never taken for good.
    Inconclusive,
    /// Bad.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "fail",
        })
    }
}
