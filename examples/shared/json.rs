//! What `--json` prints as the last line: one object about a rollout and the requests that it was done under.

use std::time::Duration;

use deploykit::{Report, StepTime};
use deploykit_testing::Tally;
use serde_json::{Map, Value, json};

/// A rollout and its requests.
pub(crate) fn summary(report: &Report, load: &Tally) -> Map<String, Value> {
    let pairs = [
        ("outcome", json!(report.outcome.name())),
        ("why", json!(report.why)),
        ("strategy", json!(report.strategy)),
        ("seconds", seconds(report.duration())),
        ("requests", json!(load.requests)),
        ("failed", json!(load.failed)),
        ("failed_by_place", json!(load.failed_by)),
        ("answered_by_place", json!(load.answered_by)),
        ("steps", steps(report)),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Where the time went.
fn steps(report: &Report) -> Value {
    let told = |step: &StepTime| {
        let took = step.ended.unwrap_or(report.ended).since(step.began);
        let parts = step.parts.iter().map(|part| (part.name.clone(), seconds(part.took)));
        json!({ "name": step.name, "seconds": seconds(took), "parts": Map::from_iter(parts) })
    };
    report.steps.iter().map(told).collect()
}

/// To the millisecond.
pub(crate) fn seconds(time: Duration) -> Value {
    json!((time.as_secs_f64() * 1000.0).round() / 1000.0)
}
