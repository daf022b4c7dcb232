//! Decides from measurements.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::provider::{Measurement, Verdict};
use crate::time::human;

/// How measurements become a verdict. Data: it stands in the plan.
///
/// A gate that is waited for passes after `successes` passes in a row, and fails when more than `failure_limit`
/// measurements failed, when more than `inconclusive_limit` said nothing, or when `deadline` is over. A gate in the
/// background of a soak fails by the same limits, and the soak does not end well before it has had its successes.
///
/// The two limits are Argo Rollouts' `failureLimit` and `inconclusiveLimit`, with its defaults of zero failures;
/// measurements that say nothing are allowed a few here, since a single lost packet is not news.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Judge {
    /// From the beginning of one measurement to that of the next.
    #[serde(rename = "interval_ms", with = "crate::time::millis")]
    pub interval: Duration,
    /// How long one measurement may take; after that it says nothing.
    #[serde(rename = "timeout_ms", with = "crate::time::millis")]
    pub timeout: Duration,
    /// Passes in a row that are needed; at least 1.
    pub successes: u32,
    /// Failures that are let pass.
    pub failure_limit: u32,
    /// Measurements without a result that are let pass.
    pub inconclusive_limit: u32,
    /// How long the gate is waited for; without a verdict by then it fails.
    #[serde(rename = "deadline_ms", with = "crate::time::millis")]
    pub deadline: Duration,
}

impl Default for Judge {
    /// Three passes in a row, a second apart, 5 s each, no failure, three without result, within two minutes.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            successes: 3,
            failure_limit: 0,
            inconclusive_limit: 3,
            deadline: Duration::from_secs(120),
        }
    }
}

impl Judge {
    /// The [default](Self::default).
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the time from one measurement to the next.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets how long one measurement may take.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many passes in a row are needed.
    #[must_use]
    pub fn with_successes(mut self, successes: u32) -> Self {
        self.successes = successes;
        self
    }

    /// Sets how many failures are let pass.
    #[must_use]
    pub fn with_failure_limit(mut self, limit: u32) -> Self {
        self.failure_limit = limit;
        self
    }

    /// Sets how many measurements without a result are let pass.
    #[must_use]
    pub fn with_inconclusive_limit(mut self, limit: u32) -> Self {
        self.inconclusive_limit = limit;
        self
    }

    /// Sets how long the gate is waited for.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The shortest time in which the gate can pass.
    pub(crate) fn least(&self) -> Duration {
        self.interval.saturating_mul(self.successes.saturating_sub(1))
    }

    pub(crate) fn check(&self, gate: &str) -> Result<()> {
        let wrong = |what: &str| Err(Error::invalid(format!("gate {gate}: {what}")));
        if self.successes == 0 {
            return wrong("0 successes would be a pass without data");
        }
        if self.interval.is_zero() || self.timeout.is_zero() {
            return wrong("interval or timeout is zero");
        }
        let least = self.least();
        if self.deadline <= least {
            return wrong(&format!(
                "{} successes take {} at least, and the deadline is {}",
                self.successes,
                human(least),
                human(self.deadline)
            ));
        }
        Ok(())
    }
}

/// What a judge has seen so far. The machine keeps one for each gate in use.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) in_a_row: u32,
    failed: u32,
    inconclusive: u32,
    pub(crate) last: Option<Measurement>,
}

impl Record {
    /// Counts passes that a replayed journal does not have.
    pub(crate) fn catch_up(&mut self, passes: u32) {
        self.in_a_row = self.in_a_row.max(passes);
    }

    /// Takes one measurement in.
    pub(crate) fn take(&mut self, measurement: &Measurement) {
        match measurement.verdict {
            Verdict::Pass => self.in_a_row = self.in_a_row.saturating_add(1),
            Verdict::Fail => {
                self.in_a_row = 0;
                self.failed = self.failed.saturating_add(1);
            }
            Verdict::Inconclusive => {
                self.in_a_row = 0;
                self.inconclusive = self.inconclusive.saturating_add(1);
            }
        }
        self.last = Some(measurement.clone());
    }

    /// What `judge` says of all that was taken in. Failures count before passes.
    pub(crate) fn verdict(&self, judge: &Judge) -> Verdict {
        if self.failed > judge.failure_limit || self.inconclusive > judge.inconclusive_limit {
            Verdict::Fail
        } else if self.in_a_row >= judge.successes {
            Verdict::Pass
        } else {
            Verdict::Inconclusive
        }
    }

    /// How it stands, for people.
    pub(crate) fn summary(&self, judge: &Judge) -> String {
        let last = self.last.as_ref().map_or("nothing was measured", |m| m.evidence.as_str());
        format!(
            "{last} ({} of {} in a row passed, {} failed, {} without result)",
            self.in_a_row.min(judge.successes),
            judge.successes,
            self.failed,
            self.inconclusive
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(measurements: &[Verdict], judge: &Judge) -> Verdict {
        let mut record = Record::default();
        for verdict in measurements {
            record.take(&Measurement { verdict: *verdict, evidence: String::new() });
        }
        record.verdict(judge)
    }

    #[test]
    fn nothing_measured_is_no_pass() {
        assert_eq!(after(&[], &Judge::new().with_successes(1)), Verdict::Inconclusive);
    }

    #[test]
    fn passes_count_only_in_a_row() {
        use Verdict::{Fail, Pass};
        let judge = Judge::new().with_successes(2).with_failure_limit(1);
        assert_eq!(after(&[Pass, Fail, Pass], &judge), Verdict::Inconclusive);
        assert_eq!(after(&[Pass, Fail, Pass, Pass], &judge), Pass);
    }

    #[test]
    fn one_failure_over_the_limit_fails_whatever_passes_after_it() {
        use Verdict::{Fail, Pass};
        let judge = Judge::new().with_successes(1).with_failure_limit(1);
        assert_eq!(after(&[Fail, Fail, Pass, Pass], &judge), Fail);
    }

    #[test]
    fn too_many_measurements_without_a_result_fail() {
        let judge = Judge::new().with_inconclusive_limit(1);
        assert_eq!(after(&[Verdict::Inconclusive; 2], &judge), Verdict::Fail);
    }
}
