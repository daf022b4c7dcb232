use std::time::Duration;

use super::{GateUse, OnOrphan, Roll, Step};
use crate::name::{ApproverName, Role};
use crate::routing::Weight;

/// The steps of a plan while a strategy writes them down.
///
/// ```
/// use deploykit_core::{Draft, Weight};
/// use std::time::Duration;
///
/// let draft = Draft::new()
///     .launch(Weight::ALL)
///     .await_healthy(Duration::from_secs(300))
///     .shift(Weight::ALL)
///     .soak(Duration::from_secs(60), ["errors"])
///     .promote()
///     .retire(Duration::from_secs(30));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Draft {
    pub(crate) steps: Vec<Step>,
    pub(crate) on_orphan: OnOrphan,
}

impl Draft {
    /// No steps yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds any step.
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Starts the candidate with this share of the service's desired count.
    pub fn launch(self, share: Weight) -> Self {
        self.step(Step::Launch { share })
    }

    /// Waits until the candidate is healthy.
    pub fn await_healthy(self, within: Duration) -> Self {
        self.step(Step::AwaitHealthy { within })
    }

    /// Lets testers reach the candidate.
    pub fn open_test(self) -> Self {
        self.step(Step::OpenTest)
    }

    /// Waits until all of these gates pass.
    pub fn validate<G: Into<GateUse>>(self, gates: impl IntoIterator<Item = G>) -> Self {
        self.step(Step::Validate { gates: gates.into_iter().map(Into::into).collect() })
    }

    /// Closes the test route.
    pub fn close_test(self) -> Self {
        self.step(Step::CloseTest)
    }

    /// Sends this share of the live requests to the candidate.
    pub fn shift(self, weight: Weight) -> Self {
        self.step(Step::Shift { weight })
    }

    /// Waits while these gates are measured.
    pub fn soak<G: Into<GateUse>>(
        self,
        time: Duration,
        gates: impl IntoIterator<Item = G>,
    ) -> Self {
        self.step(Step::Soak { time, gates: gates.into_iter().map(Into::into).collect() })
    }

    /// Replaces stable's tasks by the candidate's in batches.
    pub fn roll(self, roll: Roll) -> Self {
        self.step(Step::Roll(roll))
    }

    /// Waits until somebody approves, for so long at most.
    pub fn approve(self, within: Duration) -> Self {
        self.step(Step::Approve { approver: None, within, gates: Vec::new() })
    }

    /// Waits until the approver of this name approves, for so long at most.
    pub fn approve_by(self, approver: impl Into<ApproverName>, within: Duration) -> Self {
        self.step(Step::Approve { approver: Some(approver.into()), within, gates: Vec::new() })
    }

    /// Makes the candidate stable.
    pub fn promote(self) -> Self {
        self.step(Step::Promote)
    }

    /// Keeps the old place for so long.
    pub fn hold(self, time: Duration) -> Self {
        self.step(Step::Hold { time })
    }

    /// Drains the held place, for so long at most, and removes it.
    pub fn retire(self, drain: Duration) -> Self {
        self.step(Step::Retire { role: Role::Held, drain })
    }

    /// Sets what is done when the deployer dies.
    pub fn on_orphan(mut self, on_orphan: OnOrphan) -> Self {
        self.on_orphan = on_orphan;
        self
    }
}
