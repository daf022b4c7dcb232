use serde::{Deserialize, Serialize};

use crate::machine::Event;

/// What somebody asks of a rollout in progress. Asking for what is impossible or too late changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ask {
    /// Begin nothing new, and stop the clocks of soaks; deadlines and gates go on. A pause that nobody ends is undone after
    /// 24 hours.
    Pause,
    /// End a pause.
    Unpause,
    /// Skip the waits that are left. Every gate is measured once more; one that says nothing is not taken for a pass.
    FinishNow,
    /// Approve what the rollout waits for.
    Approve,
    /// Refuse what the rollout waits for, which undoes it.
    Reject {
        /// Why.
        why: String,
    },
    /// Undo everything. After the promotion it is too late; roll back then.
    Abort,
}

/// What is asked, and by whom: a line in the store.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) by: String,
    #[serde(flatten)]
    pub(crate) ask: Ask,
}

impl From<Request> for Event {
    fn from(request: Request) -> Self {
        let Request { by, ask } = request;
        match ask {
            Ask::Pause => Self::Paused { by },
            Ask::Unpause => Self::Unpaused { by },
            Ask::FinishNow => Self::FinishRequested { by },
            Ask::Approve => Self::Approved { by },
            Ask::Reject { why } => Self::Rejected { by, why },
            Ask::Abort => Self::AbortRequested { by },
        }
    }
}
