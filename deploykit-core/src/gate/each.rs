use std::future::Future;

use futures::future::try_join_all;

use crate::error::Result;
use crate::provider::{Measurement, Verdict};

/// Measures all targets of the candidate at the same time, and says the worst of it. None at all says nothing.
///
/// # Errors
/// The first that a measurement has: it is the gate's, not the target's.
pub(super) async fn each_target<'a, F>(
    gate: &str,
    targets: &'a [String],
    measure: impl Fn(&'a str) -> F,
) -> Result<Measurement>
where
    F: Future<Output = Result<Measurement>> + 'a,
{
    let all = try_join_all(targets.iter().map(|target| measure(target))).await?;
    let Some(verdict) = all.iter().map(|one| one.verdict).max() else {
        return Ok(Measurement::inconclusive(format!(
            "{gate}: the candidate has no target that takes requests"
        )));
    };
    let mut alike = all.iter().filter(|one| one.verdict == verdict);
    let first = alike.next().map_or("", |one| &one.evidence);
    let evidence = match (all.len(), 1 + alike.count()) {
        (1, _) => first.to_owned(),
        (all, _) if verdict == Verdict::Pass => format!("{first} (all {all} targets passed)"),
        (all, alike) => format!("{first} ({alike} of {all} targets)"),
    };
    Ok(Measurement { verdict, evidence })
}
