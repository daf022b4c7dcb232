//! What became of the requests of a load.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// How many failures are kept in full; the others are only counted.
const KEPT_FAILURES: usize = 20;

/// What became of the requests of a load.
///
/// Whoever answers is known by a short text: the place (`A`), or the version that the service itself names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tally {
    /// Requests that ended, well or not.
    pub requests: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Who answered how many, with whatever status. Requests without an answer are missing here.
    pub answered_by: BTreeMap<String, u64>,
    /// Who failed how many: by whom they were answered badly, or to whom they had been sent when they were lost. Those that
    /// nobody can be named for are under `nobody`.
    pub failed_by: BTreeMap<String, u64>,
    /// The first twenty failures.
    pub failures: Vec<Failure>,
}

/// One request that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Failure {
    /// When it was known to have failed, since the world or the load began.
    #[serde(rename = "at_ms", serialize_with = "whole_millis")]
    pub at: Duration,
    /// By whom; see [`Tally::failed_by`].
    pub by: String,
    /// Why: `status 500`, `connection reset`.
    pub why: String,
}

fn whole_millis<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a request that was answered well.
    pub fn answered(&mut self, by: &str) {
        self.requests += 1;
        add(&mut self.answered_by, by);
    }

    /// Counts a request that was answered, but badly, at `at`.
    pub fn answered_badly(&mut self, at: Duration, by: &str, why: impl Into<String>) {
        add(&mut self.answered_by, by);
        self.lost(at, Some(by), why);
    }

    /// Counts a request that got no answer; `by` is to whom it had been sent, where that is known.
    pub fn lost(&mut self, at: Duration, by: Option<&str>, why: impl Into<String>) {
        self.requests += 1;
        self.failed += 1;
        let by = by.unwrap_or("nobody");
        add(&mut self.failed_by, by);
        if self.failures.len() < KEPT_FAILURES {
            self.failures.push(Failure { at, by: by.to_owned(), why: why.into() });
        }
    }

    /// How many requests this one answered, a place for example.
    pub fn answers_of(&self, by: impl fmt::Display) -> u64 {
        self.answered_by.get(&by.to_string()).copied().unwrap_or_default()
    }

    /// How many requests this one failed.
    pub fn failures_of(&self, by: impl fmt::Display) -> u64 {
        self.failed_by.get(&by.to_string()).copied().unwrap_or_default()
    }
}

fn add(counts: &mut BTreeMap<String, u64>, key: &str) {
    match counts.get_mut(key) {
        Some(count) => *count += 1,
        None => {
            counts.insert(key.to_owned(), 1);
        }
    }
}

/// For people: the counts in one line, then one line for each failure that was kept.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<String, u64>| {
            let parts: Vec<_> = counts.iter().map(|(by, n)| format!("{by} {n}")).collect();
            parts.join(", ")
        };
        write!(f, "{} requests, {} failed", self.requests, self.failed)?;
        if !self.answered_by.is_empty() {
            write!(f, "; answered by {}", list(&self.answered_by))?;
        }
        if !self.failed_by.is_empty() {
            write!(f, "; failed by {}", list(&self.failed_by))?;
        }
        for failure in &self.failures {
            write!(f, "\n  {failure}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s {}: {}", self.at.as_secs_f64(), self.by, self.why)
    }
}
