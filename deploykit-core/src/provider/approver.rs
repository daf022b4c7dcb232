use std::fmt;

use async_trait::async_trait;

use crate::error::Result;
use crate::image::PinnedImage;
use crate::name::{RolloutId, ServiceName};
use crate::time::Timestamp;

/// Asks people, or a system that does, whether a rollout may go on.
#[async_trait]
pub trait Approver: fmt::Debug + Send + Sync + 'static {
    /// Asks, and waits for the answer.
    ///
    /// **Contract.** May wait for as long as it takes; the plan has the deadline. After a crash the same request is asked
    /// again.
    ///
    /// **Cancellation.** Dropped when the deadline is over, or when somebody else answered through the rollout's control.
    ///
    /// **Errors.** After a [temporary](crate::Error::is_temporary) one it is asked again; any other undoes the rollout.
    async fn ask(&self, request: &ApprovalRequest) -> Result<Approval>;
}

/// What is to be approved.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApprovalRequest {
    /// The service.
    pub service: ServiceName,
    /// The rollout that waits.
    pub rollout: RolloutId,
    /// What it brings.
    pub release: PinnedImage,
    /// What it replaces; none for a first deployment.
    pub before: Option<PinnedImage>,
    /// When the rollout is undone without an answer.
    pub until: Option<Timestamp>,
}

impl ApprovalRequest {
    /// A request, for testing an approver.
    pub fn new(service: ServiceName, rollout: RolloutId, release: PinnedImage) -> Self {
        Self { service, rollout, release, before: None, until: None }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// It may go on.
    Approved {
        /// Who says so.
        by: String,
    },
    /// It may not, and is undone.
    Rejected {
        /// Who says so.
        by: String,
        /// Why.
        why: String,
    },
}
