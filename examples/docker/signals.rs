//! What an end that somebody asks for does to waits outside of a rollout.

use deploykit::{Error, ErrorKind, Result, Signals};

/// Waits for something, but not after anybody has asked for an end.
pub(crate) async fn unless_asked(signals: &mut Signals, wait: impl Future<Output = ()>) {
    if !signals.has_come() {
        tokio::select! {
            () = wait => {}
            _ = signals.next() => {}
        }
    }
}

/// Does something of which nothing is left to undo.
pub(crate) async fn unless_interrupted<T>(
    signals: &mut Signals,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        done = work => done,
        by = signals.next() => Err(Error::new(ErrorKind::Other, format!("ended by {by}"))),
    }
}
