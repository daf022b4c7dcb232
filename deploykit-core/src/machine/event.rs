use serde::{Deserialize, Serialize};

use super::effect::EffectId;
use crate::error::{Error, ErrorKind};
use crate::name::{GateName, Place, RevisionId, TaskId};
use crate::provider::Measurement;
use crate::store::Owner;
use crate::time::Timestamp;

/// One line of a rollout's journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// When the deployer that wrote it saw it happen.
    pub at: Timestamp,
    /// Which request this was, of those that were left in the store; 0 is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened in a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub(crate) enum Event {
    /// A deployer began.
    Begun {
        /// The version of the machine that decides.
        machine: u32,
        /// Who.
        by: Owner,
    },
    /// Another deployer took over, or the same one tries again what needed an operator.
    Recovered {
        /// Who.
        by: Owner,
    },
    /// The release has a revision.
    Registered {
        /// The answered effect.
        effect: EffectId,
        /// Its name.
        revision: RevisionId,
    },
    /// The service was looked at.
    Surveyed {
        /// The answered effect.
        effect: EffectId,
        /// What was seen.
        survey: Survey,
    },
    /// An effect was carried out, and read back where it changed something.
    Done {
        /// The answered effect.
        effect: EffectId,
        /// What is worth telling people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// An effect failed for good.
    Failed {
        /// The answered effect.
        effect: EffectId,
        /// What the failure means.
        kind: ErrorKind,
        /// The whole chain of causes.
        error: String,
    },
    /// A gate was measured.
    Measured {
        /// The answered effect.
        effect: EffectId,
        /// Which gate.
        gate: GateName,
        /// What it said.
        measurement: Measurement,
        /// The passes in a row before it, which are not in the journal themselves.
        passes_before: u32,
    },
    /// Somebody paused the rollout.
    Paused {
        /// Who.
        by: String,
    },
    /// Somebody let it go on.
    Unpaused {
        /// Who.
        by: String,
    },
    /// Somebody skips the waits that are left.
    FinishRequested {
        /// Who.
        by: String,
    },
    /// Somebody approved what the rollout waits for.
    Approved {
        /// Who.
        by: String,
    },
    /// Somebody refused it.
    Rejected {
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
    /// Somebody wants it undone.
    AbortRequested {
        /// Who.
        by: String,
    },
}

impl Event {
    pub(crate) fn failed(effect: EffectId, error: &Error) -> Self {
        Self::Failed { effect, kind: error.kind(), error: error.report() }
    }

    /// What it answers.
    pub(super) fn effect(&self) -> Option<EffectId> {
        match self {
            Self::Registered { effect, .. }
            | Self::Surveyed { effect, .. }
            | Self::Done { effect, .. }
            | Self::Failed { effect, .. }
            | Self::Measured { effect, .. } => Some(*effect),
            _ => None,
        }
    }
}

/// What a look at the service showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Survey {
    /// Each place that has tasks.
    pub places: Vec<Seen>,
}

impl Survey {
    pub(crate) fn place(&self, place: Place) -> Option<&Seen> {
        self.places.iter().find(|seen| seen.place == place)
    }
}

/// What a look at a place showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// The place.
    pub place: Place,
    /// What it runs.
    pub revision: RevisionId,
    /// How many tasks it is to have.
    pub desired: u32,
    /// How many are ready, and take requests where there is a balancer.
    pub ready: u32,
    /// The tasks that are not being stopped, those that are not ready first.
    pub tasks: Vec<TaskId>,
}
