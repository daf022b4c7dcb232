use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::{GateName, JobName, Place, RolloutId, ServiceName};
use crate::outcome::Outcome;
use crate::provider::{JobEnd, Measurement};
use crate::routing::Routing;
use crate::time::{Timestamp, human};

/// Something to show of a rollout in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Update {
    /// When.
    pub at: Timestamp,
    /// Of this service.
    pub service: ServiceName,
    /// In this rollout.
    pub rollout: RolloutId,
    /// What.
    #[serde(flatten)]
    pub kind: UpdateKind,
}

/// What an [`Update`] shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "update", rename_all = "snake_case")]
#[non_exhaustive]
pub enum UpdateKind {
    /// A step begins.
    Step {
        /// Its number, 1 being the first.
        number: usize,
        /// How many there are.
        of: usize,
        /// Its name.
        name: String,
        /// What it does, in words.
        text: String,
    },
    /// The tasks of a place that is awaited or watched, whenever they have changed.
    Tasks {
        /// Which place.
        place: Place,
        /// How many are ready, and take requests where there is a balancer.
        healthy: u32,
        /// How many are wanted.
        wanted: u32,
    },
    /// The routing has changed, and was read back.
    Routing {
        /// To this.
        routing: Routing,
    },
    /// A place is draining.
    InFlight {
        /// Which place.
        place: Place,
        /// How many requests it is still answering.
        requests: u64,
    },
    /// A gate was measured.
    Measured {
        /// Which gate.
        gate: GateName,
        /// What it said.
        measurement: Measurement,
    },
    /// A job has ended.
    Job {
        /// Which job.
        job: JobName,
        /// How.
        end: JobEnd,
    },
    /// The rollout stands still.
    Paused,
    /// It goes on.
    Unpaused,
    /// A hook or a job is begun.
    Begins {
        /// Which, and at what point.
        what: String,
        /// How long it may take.
        #[serde(rename = "at_most_ms", with = "crate::time::millis")]
        at_most: Duration,
    },
    /// Something that people should know.
    Note {
        /// In words.
        text: String,
    },
    /// It goes back.
    Undoing {
        /// Because of this.
        why: String,
    },
    /// It is over.
    Ended {
        /// How.
        #[serde(flatten)]
        outcome: Outcome,
        /// Why, where it is not promoted.
        why: Option<String>,
    },
}

/// One line for people.
impl fmt::Display for UpdateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step { number, of, name, text } => write!(f, "step {number}/{of} {name}: {text}"),
            Self::Tasks { place, healthy, wanted } => {
                write!(f, "place {place}: {healthy} of {wanted} healthy")
            }
            Self::Routing { routing } => write!(f, "routing: {routing}"),
            Self::InFlight { place, requests: 1 } => {
                write!(f, "place {place}: 1 request in flight")
            }
            Self::InFlight { place, requests } => {
                write!(f, "place {place}: {requests} requests in flight")
            }
            Self::Measured { gate, measurement } => {
                write!(f, "gate {gate}: {} ({})", measurement.verdict, measurement.evidence)
            }
            Self::Job { job, end } => write!(f, "job {job}: {end}"),
            Self::Paused => f.write_str("paused"),
            Self::Unpaused => f.write_str("goes on"),
            Self::Begins { what, at_most } => {
                write!(f, "{what} begins, {} at most", human(*at_most))
            }
            Self::Note { text } => write!(f, "note: {text}"),
            Self::Undoing { why } => write!(f, "undoing: {why}"),
            Self::Ended { outcome, why } => match why {
                // Who aborted says why.
                Some(why) if !why.starts_with(&outcome.to_string()) => {
                    write!(f, "{outcome}: {why}")
                }
                _ => write!(f, "{outcome}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abort_is_told_once() {
        let outcome = Outcome::Aborted { by: "ann".into() };
        let ended =
            |why: &str| UpdateKind::Ended { outcome: outcome.clone(), why: Some(why.into()) };
        assert_eq!(ended("aborted by ann").to_string(), "aborted by ann");
        assert_eq!(ended("ann refused: late").to_string(), "aborted by ann: ann refused: late");
    }
}
