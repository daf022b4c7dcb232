use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use crate::driver::{Ask, Command, Request, Update};
use crate::error::{Error, ErrorKind, Result};
use crate::name::RolloutId;
use crate::outcome::Report;

/// A rollout in progress. Await it for its [`Report`].
///
/// It runs in a task of its own: dropping this handle stops nothing. When the whole runtime ends, the rollout is left
/// to [`Deployer::recover`](crate::Deployer::recover).
#[must_use = "await it to learn the outcome"]
pub struct Rollout {
    pub(super) id: Option<RolloutId>,
    pub(super) task: JoinHandle<Result<Report>>,
    pub(super) control: Control,
    pub(super) updates: Updates,
}

impl Rollout {
    /// Its name; none when there is nothing to do.
    pub fn id(&self) -> Option<&RolloutId> {
        self.id.as_ref()
    }

    /// Steers it from elsewhere: a signal handler, a chat bot.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// What happens, from the beginning at the first call, from now on at later ones.
    pub fn updates(&mut self) -> Updates {
        let next = Updates(self.updates.0.resubscribe());
        std::mem::replace(&mut self.updates, next)
    }

    /// [`Control::pause`].
    pub fn pause(&self, by: impl Into<String>) {
        self.control.pause(by);
    }

    /// [`Control::unpause`].
    pub fn unpause(&self, by: impl Into<String>) {
        self.control.unpause(by);
    }

    /// [`Control::finish_now`].
    pub fn finish_now(&self, by: impl Into<String>) {
        self.control.finish_now(by);
    }

    /// [`Control::abort`].
    pub fn abort(&self, by: impl Into<String>) {
        self.control.abort(by);
    }
}

impl fmt::Debug for Rollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rollout").field("id", &self.id).finish_non_exhaustive()
    }
}

impl IntoFuture for Rollout {
    type Output = Result<Report>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let ended = self.task.await;
            ended.unwrap_or_else(|e| {
                Err(Error::new(ErrorKind::Other, "the rollout's task ended before the rollout did")
                    .with_hint("call recover for this service")
                    .with_source(e))
            })
        })
    }
}

/// Steers a rollout. Asking for what is impossible or too late changes nothing. Each call says who asks.
#[derive(Clone)]
pub struct Control(pub(super) mpsc::UnboundedSender<Command>);

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// Begins nothing new, and stops the clocks of soaks; deadlines and gates go on. A pause that nobody ends is
    /// undone after 24 hours.
    pub fn pause(&self, by: impl Into<String>) {
        self.ask(by, Ask::Pause);
    }

    /// Ends a pause.
    pub fn unpause(&self, by: impl Into<String>) {
        self.ask(by, Ask::Unpause);
    }

    /// Skips the waits that are left. Every gate is measured once more; one that says nothing is not taken for a pass.
    pub fn finish_now(&self, by: impl Into<String>) {
        self.ask(by, Ask::FinishNow);
    }

    /// Approves what the rollout waits for; nothing when it waits for nothing.
    pub fn approve(&self, by: impl Into<String>) {
        self.ask(by, Ask::Approve);
    }

    /// Refuses what the rollout waits for, which undoes it.
    pub fn reject(&self, by: impl Into<String>, why: impl Into<String>) {
        self.ask(by, Ask::Reject { why: why.into() });
    }

    /// Undoes everything. After the promotion it is too late; roll back then.
    pub fn abort(&self, by: impl Into<String>) {
        self.ask(by, Ask::Abort);
    }

    fn ask(&self, by: impl Into<String>, ask: Ask) {
        // A rollout that has ended takes no more.
        let _ = self.0.send(Request { by: by.into(), ask }.into());
    }
}

/// What happens in a rollout, in order.
#[derive(Debug)]
pub struct Updates(pub(super) broadcast::Receiver<Update>);

impl Updates {
    /// The next update; `None` when the rollout is over. A reader that is thousands behind misses the oldest.
    ///
    /// **Cancellation.** Safe: nothing is lost.
    pub async fn next(&mut self) -> Option<Update> {
        loop {
            match self.0.recv().await {
                Ok(update) => return Some(update),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl futures::Stream<Item = Update> + Send + Unpin {
        Box::pin(futures::stream::unfold(self, |mut updates| async move {
            let update = updates.next().await?;
            Some((update, updates))
        }))
    }
}
