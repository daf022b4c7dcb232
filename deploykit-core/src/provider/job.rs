//! What a job is to an orchestrator.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::{JobId, JobName, RolloutId, ServiceName};

/// One run of a job. It never happens twice: whoever asks for the same id again is told about the same run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobRun {
    /// Of this service.
    pub service: ServiceName,
    /// Unique among all runs of the service's jobs.
    pub id: JobId,
    /// As the user named the job; a label for people.
    pub name: JobName,
    /// On behalf of this rollout; a label for people, not a condition.
    pub rollout: RolloutId,
    /// How long it may run, counted from its real start.
    #[serde(rename = "limit_ms", with = "crate::time::millis")]
    pub limit: Duration,
}

impl JobRun {
    /// A run of a job, for testing an orchestrator.
    pub fn new(
        service: ServiceName,
        id: impl Into<JobId>,
        name: impl Into<JobName>,
        rollout: impl Into<RolloutId>,
        limit: Duration,
    ) -> Self {
        Self { service, id: id.into(), name: name.into(), rollout: rollout.into(), limit }
    }
}

/// How a job fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobState {
    /// It was not started, or nothing is known of it any more.
    Absent,
    /// It runs.
    Running,
    /// It has ended.
    Ended(JobEnd),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobEnd {
    /// What it exited with; 128 and the signal's number where a signal ended it.
    pub exit_code: i64,
    /// Whether it was killed for the memory that it used.
    #[serde(default)]
    pub out_of_memory: bool,
    /// Whether it ran for longer than its time limit.
    #[serde(default)]
    pub timed_out: bool,
    /// The last lines that it wrote, oldest first.
    #[serde(default)]
    pub log: Vec<String>,
}

impl JobEnd {
    /// It exited with this code.
    pub fn new(exit_code: i64) -> Self {
        Self { exit_code, out_of_memory: false, timed_out: false, log: Vec::new() }
    }

    /// Sets whether it was killed for the memory that it used.
    #[must_use]
    pub fn with_out_of_memory(mut self, out_of_memory: bool) -> Self {
        self.out_of_memory = out_of_memory;
        self
    }

    /// Sets whether it ran for longer than its time limit.
    #[must_use]
    pub fn with_timed_out(mut self, timed_out: bool) -> Self {
        self.timed_out = timed_out;
        self
    }

    /// Sets the last lines that it wrote.
    #[must_use]
    pub fn with_log<S: Into<String>>(mut self, lines: impl IntoIterator<Item = S>) -> Self {
        self.log = lines.into_iter().map(Into::into).collect();
        self
    }

    /// Whether it did what it was to do: exit code 0, in time.
    pub fn is_success(&self) -> bool {
        self.exit_code == 0 && !self.out_of_memory && !self.timed_out
    }
}

/// One line: why it ended, and what it wrote last.
impl fmt::Display for JobEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.exit_code;
        if self.out_of_memory {
            write!(f, "it ran out of memory (exit code {code})")?;
        } else if self.timed_out {
            write!(f, "it did not end within its time limit (exit code {code})")?;
        } else {
            write!(f, "it exited with code {code}")?;
        }
        match self.log.as_slice() {
            [] => Ok(()),
            lines => write!(f, "; its last lines: {}", lines.join(" | ")),
        }
    }
}
