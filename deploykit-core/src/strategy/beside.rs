//! What strategies have in common that start the candidate beside a stable that keeps its whole capacity to the end.

use std::time::Duration;

use super::Context;
use crate::plan::{Draft, GateUse, OnOrphan};

/// The settings that they share.
#[derive(Clone, Debug)]
pub(super) struct Beside {
    pub(super) watch: Vec<GateUse>,
    pub(super) bake: Duration,
    pub(super) hold: Duration,
    pub(super) drain: Duration,
    pub(super) healthy_within: Duration,
    pub(super) on_orphan: OnOrphan,
}

impl Beside {
    pub(super) fn new() -> Self {
        Self {
            watch: Vec::new(),
            bake: Duration::ZERO,
            hold: Duration::ZERO,
            drain: Duration::from_secs(30),
            healthy_within: Duration::from_secs(300),
            on_orphan: OnOrphan::Undo,
        }
    }

    /// The steps after the last shift.
    pub(super) fn end(&self, mut draft: Draft, context: &Context) -> Draft {
        if !self.bake.is_zero() {
            draft = draft.soak(self.bake, self.watch.clone());
        }
        draft = draft.promote();
        if context.stable.is_none() {
            draft
        } else if self.hold.is_zero() {
            draft.retire(self.drain)
        } else {
            draft.hold(self.hold)
        }
    }
}

/// The setters of [`Beside`], on the strategy that has it as `beside`.
macro_rules! setters {
    () => {
        /// These gates are measured whenever the candidate gets live requests and there is a wait. There is no test route
        /// then: take a gate that asks each target of the candidate, or one that reads a metric. A gate that asks the live
        /// entry mostly sees the old version while the share is small.
        pub fn watch<G: Into<GateUse>>(mut self, gates: impl IntoIterator<Item = G>) -> Self {
            self.beside.watch = gates.into_iter().map(Into::into).collect();
            self
        }

        /// How long the candidate is watched with all requests before it is promoted.
        pub fn bake(mut self, time: Duration) -> Self {
            self.beside.bake = time;
            self
        }

        /// How long the old place is kept after the promotion. The rollout does not wait for that: the place stays until the
        /// next promotion, or until [`Deployer::settle`](crate::Deployer::settle) is called when the time is over.
        pub fn hold(mut self, time: Duration) -> Self {
            self.beside.hold = time;
            self
        }

        /// How long requests in flight may take before an old task is stopped.
        pub fn drain(mut self, deadline: Duration) -> Self {
            self.beside.drain = deadline;
            self
        }

        /// How long the candidate may take to become healthy.
        pub fn healthy_within(mut self, deadline: Duration) -> Self {
            self.beside.healthy_within = deadline;
            self
        }

        /// What is done with the rollout when its deployer dies.
        pub fn on_orphan(mut self, on_orphan: OnOrphan) -> Self {
            self.beside.on_orphan = on_orphan;
            self
        }
    };
}
pub(super) use setters;
