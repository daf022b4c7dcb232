//! What `--json` prints as the last line: one object about a rollout and the requests that it was done under.

use deploykit::Report;
use deploykit_testing::Tally;
use serde_json::{Value, json};

/// A rollout and its requests.
pub(crate) fn summary(report: &Report, load: &Tally) -> Value {
    json!({
        "outcome": report.outcome.name(),
        "why": report.why,
        "strategy": report.strategy,
        "seconds": report.duration().as_secs_f64(),
        "requests": load.requests,
        "failed": load.failed,
        "failed_by_place": load.failed_by,
        "answered_by_place": load.answered_by,
    })
}
