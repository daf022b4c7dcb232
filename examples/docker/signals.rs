//! Ctrl-C, SIGTERM, and the end of the terminal: the first undoes the rollout, further ones change nothing.

use deploykit::{Error, ErrorKind, Report, Result, Rollout};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that ask for an end.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// Whether one has come.
    asked: bool,
}

impl Signals {
    /// From now on they do not end the process.
    pub(crate) fn catch() -> Result<Self> {
        let catch = |kind| {
            signal(kind).map_err(|error| {
                Error::new(ErrorKind::Other, "signals cannot be caught").with_source(error)
            })
        };
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: catch(SignalKind::hangup())?,
            asked: false,
        })
    }

    /// Awaits a rollout. One that is asked to end is undone, which takes its time: requests in flight are answered first.
    pub(crate) async fn steer(&mut self, rollout: Rollout, say: impl Fn(&str)) -> Result<Report> {
        let control = rollout.control();
        let mut ended = rollout.into_future();
        loop {
            let again = self.asked;
            tokio::select! {
                report = &mut ended => return report,
                by = self.next() => {
                    control.abort(by);
                    say(&match again {
                        false => format!("{by}: everything is undone, unless it is promoted already"),
                        true => format!("{by}: still at it; what is in flight is answered first"),
                    });
                }
            }
        }
    }

    /// Waits for something, but not after anybody has asked for an end.
    pub(crate) async fn unless_asked(&mut self, wait: impl Future<Output = ()>) {
        if !self.asked {
            tokio::select! {
                () = wait => {}
                _ = self.next() => {}
            }
        }
    }

    /// Does something of which nothing is left to undo.
    pub(crate) async fn unless_interrupted<T>(
        &mut self,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            done = work => done,
            by = self.next() => Err(Error::new(ErrorKind::Other, format!("ended by {by}"))),
        }
    }

    async fn next(&mut self) -> &'static str {
        let by = tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        };
        self.asked = true;
        by
    }
}
