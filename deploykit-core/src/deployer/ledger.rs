//! What became of a service's rollouts: the history journal, folded.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::image::PinnedImage;
use crate::name::{Place, RevisionId, RolloutId, ServiceName};
use crate::outcome::{Outcome, Roles};
use crate::store::{Journal, Owner, Store};
use crate::time::Timestamp;

/// One line of a service's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub(super) enum Entry {
    /// A rollout began.
    Begun {
        at: Timestamp,
        rollout: RolloutId,
        strategy: String,
        image: PinnedImage,
        /// What served then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<RevisionId>,
        /// Whether it goes back to what served earlier.
        back: bool,
        by: Owner,
    },
    /// It ended.
    Ended {
        at: Timestamp,
        rollout: RolloutId,
        #[serde(flatten)]
        outcome: Outcome,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        roles: Roles,
        /// How many tasks stable has; for the day when they are all gone.
        tasks: u32,
    },
    /// A held place was retired outside a rollout.
    Settled { at: Timestamp, place: Place },
}

/// One rollout of a service's past.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Past {
    /// Which.
    pub rollout: RolloutId,
    /// By this strategy.
    pub strategy: String,
    /// What it brought.
    pub image: PinnedImage,
    /// Who ran it.
    pub by: Owner,
    /// When it began.
    pub began: Timestamp,
    /// When it ended; not yet, or its deployer died.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why, where it is not promoted.
    pub why: Option<String>,
    /// The revision that served afterwards.
    pub stable: Option<RevisionId>,
}

/// The fold of a history.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) length: u64,
    pub(super) past: Vec<Past>,
    pub(super) roles: Roles,
    pub(super) tasks: u32,
    /// The revisions that served, oldest first, without those that were rolled back from.
    served: Vec<RevisionId>,
    /// Whether the open rollout goes back.
    back: bool,
}

impl Ledger {
    pub(super) async fn read(store: &dyn Store, service: &ServiceName) -> Result<Self> {
        let journal = Journal::History(service.clone());
        let mut ledger = Self::default();
        for line in store.read(&journal, 0).await? {
            let entry = serde_json::from_str(&line).map_err(|e| {
                Error::new(
                    ErrorKind::Corrupt,
                    format!("line {} of the {journal} cannot be read", ledger.length + 1),
                )
                .with_hint("restore it from a backup; the journals of its rollouts are beside it")
                .with_source(e)
            })?;
            ledger.length += 1;
            ledger.take(entry);
        }
        Ok(ledger)
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Begun { at, rollout, strategy, image, before, back, by } => {
                if let Some(before) = before
                    && self.served.last() != Some(&before)
                {
                    self.served.push(before);
                }
                self.back = back;
                self.past.push(Past {
                    rollout,
                    strategy,
                    image,
                    by,
                    began: at,
                    ended: None,
                    outcome: None,
                    why: None,
                    stable: None,
                });
            }
            Entry::Ended { at, rollout, outcome, why, roles, tasks } => {
                if let (Outcome::Promoted, Some(stable)) = (&outcome, &roles.stable) {
                    self.serves(stable.revision.clone());
                }
                if let Some(past) = self.past.iter_mut().find(|past| past.rollout == rollout) {
                    past.ended = Some(at);
                    past.outcome = Some(outcome);
                    past.why = why;
                    past.stable = roles.stable.as_ref().map(|stable| stable.revision.clone());
                }
                self.roles = roles;
                self.tasks = tasks;
            }
            Entry::Settled { place, .. } => {
                if self.roles.held.as_ref().is_some_and(|held| held.place == place) {
                    (self.roles.held, self.roles.hold_until) = (None, None);
                }
            }
        }
    }

    fn serves(&mut self, revision: RevisionId) {
        match self.served.iter().rposition(|served| *served == revision) {
            // Whoever rolls back once more goes further back, not forward to what was bad.
            Some(at) if self.back => self.served.truncate(at + 1),
            _ if self.served.last() == Some(&revision) => {}
            _ => self.served.push(revision),
        }
    }

    /// The roles as the open rollout has left them so far.
    pub(super) fn stands(&mut self, mut roles: Roles, tasks: u32) {
        roles.hold_until = roles.hold_until.or_else(|| self.hold_until(&roles));
        (self.roles, self.tasks) = (roles, tasks);
    }

    /// What was held before goes on being held for as long as it was to be.
    pub(super) fn hold_until(&self, roles: &Roles) -> Option<Timestamp> {
        self.roles.hold_until.filter(|_| roles.held == self.roles.held)
    }

    /// What served before what serves now.
    pub(super) fn previous(&self) -> Option<&RevisionId> {
        self.served.iter().rev().nth(1)
    }

    /// Whether a revision ever served.
    pub(super) fn served(&self, revision: &RevisionId) -> bool {
        self.served.contains(revision)
            || self.past.iter().any(|past| past.stable.as_ref() == Some(revision))
    }

    /// The rollout that has not come to a good end: its deployer works on it or died, or it needs an operator.
    pub(super) fn unfinished(&self) -> Option<&Past> {
        self.past.last().filter(|past| matches!(past.outcome, None | Some(Outcome::NeedsOperator)))
    }
}
