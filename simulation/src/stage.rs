//! Where a rollout is when a call is struck, and how often that was.

use std::collections::BTreeMap;
use std::fmt;

use deploykit_core::{ErrorKind, UpdateKind};
use serde::{Deserialize, Serialize};

use crate::case::Harm;

/// A kind of step, or what comes before, after or instead of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// The lease, the plan, and the first step's first call.
    Begin,
    Launch,
    AwaitHealthy,
    TestRoute,
    Validate,
    Shift,
    Soak,
    Roll,
    Approve,
    Promote,
    Hold,
    Retire,
    Undo,
    /// It has an outcome, which is written down.
    End,
    /// Whatever somebody does who took it over.
    Recover,
}

impl Stage {
    pub(crate) const ALL: [Self; 15] = [
        Self::Begin,
        Self::Launch,
        Self::AwaitHealthy,
        Self::TestRoute,
        Self::Validate,
        Self::Shift,
        Self::Soak,
        Self::Roll,
        Self::Approve,
        Self::Promote,
        Self::Hold,
        Self::Retire,
        Self::Undo,
        Self::End,
        Self::Recover,
    ];

    /// Where an update says that the rollout is now.
    pub(crate) fn of(update: &UpdateKind) -> Option<Self> {
        match update {
            UpdateKind::Step { name, .. } => Some(match name.as_str() {
                "launch" => Self::Launch,
                "await healthy" => Self::AwaitHealthy,
                "open test route" | "close test route" => Self::TestRoute,
                "validate" => Self::Validate,
                "shift" => Self::Shift,
                "soak" => Self::Soak,
                "roll" => Self::Roll,
                "approve" => Self::Approve,
                "promote" => Self::Promote,
                "hold" => Self::Hold,
                "retire" => Self::Retire,
                other => panic!("a step that the simulation does not know: {other}"),
            }),
            UpdateKind::Undoing { .. } => Some(Self::Undo),
            UpdateKind::Ended { .. } => Some(Self::End),
            _ => None,
        }
    }
}

/// The columns of the table.
pub(crate) const KINDS: [&str; 9] =
    ["unavail.", "throttl.", "timeout", "for good", "lost", "hang", "slow", "kill bef", "kill aft"];

fn kind(harm: Harm) -> usize {
    match harm {
        Harm::Fail(ErrorKind::Unavailable) => 0,
        Harm::Fail(ErrorKind::Throttled) => 1,
        Harm::Fail(ErrorKind::Timeout) => 2,
        Harm::Fail(_) => 3,
        Harm::Lost => 4,
        Harm::Hang => 5,
        Harm::Slow(_) => 6,
        Harm::KillBefore => 7,
        Harm::KillAfter => 8,
    }
}

/// How often each kind of fault struck at each stage: calls to providers, and to the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Met(BTreeMap<(bool, Stage), [u64; KINDS.len()]>);

impl Met {
    pub(crate) fn count(&mut self, is_store: bool, stage: Stage, harm: Harm) {
        self.0.entry((is_store, stage)).or_default()[kind(harm)] += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (key, counts) in &other.0 {
            let row = self.0.entry(*key).or_default();
            for (sum, count) in row.iter_mut().zip(counts) {
                *sum += count;
            }
        }
    }

    fn row(&self, is_store: bool, stage: Stage) -> [u64; KINDS.len()] {
        self.0.get(&(is_store, stage)).copied().unwrap_or_default()
    }

    /// The cells that were met less often than that.
    pub(crate) fn below(&self, least: u64) -> Vec<String> {
        let mut cells = Vec::new();
        for is_store in [false, true] {
            for stage in Stage::ALL {
                for (kind, count) in KINDS.iter().zip(self.row(is_store, stage)) {
                    if count < least {
                        let side = if is_store { "store" } else { "provider" };
                        cells.push(format!("{side}, {stage:?}, {}: {count}", kind.trim()));
                    }
                }
            }
        }
        cells
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for is_store in [false, true] {
            let what = if is_store { "calls to the store" } else { "calls to providers" };
            write!(f, "{what:18}")?;
            KINDS.iter().try_for_each(|kind| write!(f, " {kind:>8}"))?;
            writeln!(f)?;
            for stage in Stage::ALL {
                write!(f, "  {:16}", format!("{stage:?}"))?;
                let row = self.row(is_store, stage);
                row.iter().try_for_each(|count| write!(f, " {count:>8}"))?;
                writeln!(f)?;
            }
        }
        Ok(())
    }
}
