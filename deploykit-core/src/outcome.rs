//! What came of a rollout.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::image::PinnedImage;
use crate::name::{Place, RolloutId, ServiceName};
use crate::plan::Standing;
use crate::time::{Timestamp, human};

/// How a rollout ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The new version serves.
    Promoted,
    /// It failed, and everything is as it was.
    RolledBack,
    /// Somebody asked for it, and everything is as it was.
    Aborted {
        /// Who.
        by: String,
    },
    /// Neither new nor old could be reached; the report says what is where and what to do.
    NeedsOperator,
}

impl Outcome {
    /// The name in machine-readable output: `promoted`, `rolled_back`, `aborted`, `needs_operator`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Aborted { .. } => "aborted",
            Self::NeedsOperator => "needs_operator",
        }
    }

    /// The exit code that the examples use: 0, 3, 5, 4 in the order of the variants.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Promoted => 0,
            Self::RolledBack => 3,
            Self::NeedsOperator => 4,
            Self::Aborted { .. } => 5,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promoted => f.pad("promoted"),
            Self::RolledBack => f.pad("rolled back"),
            Self::Aborted { by } => write!(f, "aborted by {by}"),
            Self::NeedsOperator => f.pad("needs an operator"),
        }
    }
}

/// Which place is what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Roles {
    /// What serves.
    pub stable: Option<Standing>,
    /// The former stable that is still kept.
    pub held: Option<Standing>,
    /// Until when `held` is to be kept; after that it is an obligation to retire it.
    pub hold_until: Option<Timestamp>,
}

/// What came of a rollout, in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "the outcome may be that the new version does not serve"]
#[non_exhaustive]
pub struct Report {
    /// Which rollout; none when there was nothing to do.
    pub rollout: Option<RolloutId>,
    /// Of this service.
    pub service: ServiceName,
    /// By this strategy.
    pub strategy: String,
    /// What served before.
    pub before: Option<PinnedImage>,
    /// What was brought.
    pub release: PinnedImage,
    /// The place that it was brought to.
    pub candidate: Place,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Why, where it is not promoted.
    pub why: Option<String>,
    /// Whether stable lacked tasks when the rollout began.
    pub stable_was_unhealthy: bool,
    /// What could not be undone, and the jobs of which nobody can tell what became of them.
    pub problems: Vec<String>,
    /// What people should know, though nothing is wrong with the outcome.
    pub notes: Vec<String>,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Where the time went.
    pub steps: Vec<StepTime>,
}

impl Report {
    /// From beginning to end.
    pub fn duration(&self) -> Duration {
        self.ended.since(self.began)
    }

    /// What to do, where an operator is needed.
    pub fn advice(&self) -> Option<String> {
        (self.outcome == Outcome::NeedsOperator).then(|| {
            format!(
                "the routing was left as it is, and place {} was not removed where it may carry requests; mend what is \
                 named above, then call recover(\"{}\"), which tries the undoing again",
                self.candidate, self.service
            )
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(rollout) = &self.rollout else {
            return write!(f, "{} already runs {}; nothing was done", self.service, self.release);
        };
        write!(f, "{rollout}: {} {} in {}", self.release, self.outcome, human(self.duration()))?;
        if let Some(before) = &self.before {
            match self.outcome {
                Outcome::Promoted => write!(f, " (replaced {before})")?,
                Outcome::NeedsOperator => {}
                _ => write!(f, " ({before} serves)")?,
            }
        }
        if let (Some(why), false) = (&self.why, matches!(self.outcome, Outcome::Aborted { .. })) {
            write!(f, "\n  because: {why}")?;
        }
        if self.stable_was_unhealthy {
            f.write_str("\n  note: stable lacked healthy tasks when the rollout began")?;
        }
        for note in &self.notes {
            write!(f, "\n  note: {note}")?;
        }
        for problem in &self.problems {
            write!(f, "\n  problem: {problem}")?;
        }
        if let Some(advice) = self.advice() {
            write!(f, "\n  to do: {advice}")?;
        }
        let width = self.steps.iter().map(|step| step.name.len()).max().unwrap_or_default();
        for step in &self.steps {
            let Some(ended) = step.ended else { continue };
            write!(
                f,
                "\n  {:>9}  {:width$}  {}",
                human(ended.since(step.began)),
                step.name,
                step.text
            )?;
            if let Some(parts) = step.told_parts() {
                write!(f, "\n  {:>9}  {:width$}  of this: {parts}", "", "")?;
            }
        }
        Ok(())
    }
}

/// A part of a step that took less is not told.
const LONG: Duration = Duration::from_millis(100);

/// How long a step took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTime {
    /// The step's name, or `undo`.
    pub name: String,
    /// What it did, in words.
    pub text: String,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What its time went to, in the order in which it first did: a roll, for instance, drains, launches and soaks many times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartTime>,
}

/// What a part of a step took in all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartTime {
    /// What was done: `drain`, `await healthy`.
    pub name: String,
    /// For so long.
    #[serde(rename = "took_ms", with = "crate::time::millis")]
    pub took: Duration,
}

impl StepTime {
    pub(crate) fn new(name: &str, text: String, began: Timestamp) -> Self {
        Self { name: name.to_owned(), text, began, ended: None, parts: Vec::new() }
    }

    pub(crate) fn spend(&mut self, name: &str, time: Duration) {
        match self.parts.iter_mut().find(|part| part.name == name) {
            Some(part) => part.took += time,
            None => self.parts.push(PartTime { name: name.to_owned(), took: time }),
        }
    }

    /// The parts that took long, where there is more than one: `drain 8.1 s, soak 4.2 s`.
    fn told_parts(&self) -> Option<String> {
        let long = self.parts.iter().filter(|part| part.took >= LONG);
        let long: Vec<_> = long.map(|part| format!("{} {}", part.name, human(part.took))).collect();
        (long.len() > 1).then(|| long.join(", "))
    }
}
