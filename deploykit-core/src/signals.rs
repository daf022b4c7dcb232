//! Signals to the process that deploys.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::deployer::Rollout;
use crate::error::{Error, ErrorKind, Result};
use crate::outcome::Report;
use crate::time::human;

/// Ctrl-C, SIGTERM and SIGHUP, caught for a rollout: the first undoes it, the second leaves it as it is.
///
/// What is left is not lost: its journal says how far it was, and [`Deployer::recover`](crate::Deployer::recover) or
/// [`supervise`](crate::Deployer::supervise) finishes the undoing from there, in this program's next run or in another one.
///
/// ```no_run
/// # async fn deploy(rollout: deploykit_core::Rollout) -> deploykit_core::Result<()> {
/// use std::time::Duration;
///
/// // Less than what whoever stops the process waits before SIGKILL; systemd's default is 90 s.
/// let within = Duration::from_secs(80);
/// let report = deploykit_core::Signals::catch()?.steer(rollout, within).await?;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    has_come: bool,
}

impl Signals {
    /// From now on these signals do not end the process; one that comes is kept until it is asked for.
    ///
    /// # Errors
    /// When the operating system refuses.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn catch() -> Result<Self> {
        let catch = |kind| {
            signal(kind).map_err(|error| {
                Error::new(ErrorKind::Other, "signals cannot be caught").with_source(error)
            })
        };
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: catch(SignalKind::hangup())?,
            has_come: false,
        })
    }

    /// Awaits a rollout. The first signal has it undone, with its requests in flight answered, unless it is promoted already:
    /// then only what is left of it is done. It is left where a second signal comes, or where it takes longer than `within`
    /// from the first.
    ///
    /// # Errors
    /// As for awaiting the rollout; `Timeout` when `within` was over, `Other` after a second signal. The rollout's task goes
    /// on until the process ends, which it should do then.
    pub async fn steer(&mut self, rollout: Rollout, within: Duration) -> Result<Report> {
        let control = rollout.control();
        let name = rollout.id().map(ToString::to_string).unwrap_or_default();
        let left = |kind, why: String| {
            Error::new(kind, format!("{why}, and {name} is left unfinished")).with_hint(
                "end this process; recover, in its next run or in another, undoes the rest",
            )
        };
        let mut ended = rollout.into_future();
        let first = tokio::select! {
            report = &mut ended => return report,
            by = self.next() => by,
        };
        control.abort(first);
        // A time that cannot be told is never over.
        let until = Instant::now().checked_add(within);
        let over = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            report = ended => report,
            by = self.next() => Err(left(ErrorKind::Other, format!("{by} came after {first}"))),
            () = over => Err(left(
                ErrorKind::Timeout,
                format!("{} since {first} were not enough", human(within)),
            )),
        }
    }

    /// Waits for the next signal, and names it.
    ///
    /// **Cancellation.** Safe: nothing is lost.
    pub async fn next(&mut self) -> &'static str {
        let name = tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        };
        self.has_come = true;
        name
    }

    /// Whether one has come so far.
    pub fn has_come(&self) -> bool {
        self.has_come
    }
}
