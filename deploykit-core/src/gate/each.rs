use std::future::Future;

use futures::future::join_all;

use crate::provider::{Measurement, Verdict};

/// Measures all targets of the candidate at the same time, and says the worst of it. None at all says nothing.
pub(super) async fn each_target<'a, F>(
    gate: &str,
    targets: &'a [String],
    measure: impl Fn(&'a str) -> F,
) -> Measurement
where
    F: Future<Output = Measurement> + 'a,
{
    let all = join_all(targets.iter().map(|target| measure(target))).await;
    let Some(verdict) = all.iter().map(|one| one.verdict).max() else {
        return Measurement::inconclusive(format!(
            "{gate}: the candidate has no target that takes requests"
        ));
    };
    let mut alike = all.iter().filter(|one| one.verdict == verdict);
    let first = alike.next().map_or("", |one| &one.evidence);
    let evidence = match (all.len(), 1 + alike.count()) {
        (1, _) => first.to_owned(),
        (all, _) if verdict == Verdict::Pass => format!("{first} (all {all} targets passed)"),
        (all, alike) => format!("{first} ({alike} of {all} targets)"),
    };
    match verdict {
        Verdict::Pass => Measurement::pass(evidence),
        Verdict::Inconclusive => Measurement::inconclusive(evidence),
        Verdict::Fail => Measurement::fail(evidence),
    }
}
