//! A real HTTP load that counts what is lost.
//!
//! The load is an open loop: requests start at a fixed rate, and a slow answer never delays the next one. Nothing is
//! ever retried. Of every twenty requests ten are a POST, ten go over kept-alive connections and ten over new ones,
//! and one goes to `/slow?ms=2000`. Beside them one WebSocket at a time is held open on `/ws` and reopened when it ends.
//!
//! **Failed** means: the connection was refused or reset, the answer did not end within the time-out (5 s), its status
//! was 500 or above, or a WebSocket was not opened or ended without a close frame.
//!
//! A kept-alive connection that its peer has closed while it was idle is thrown away and another one is taken. That is
//! not a retry, because nothing had been written on it. The socket itself is asked right before the request is written;
//! a peer that closes between that and the arrival of the request loses it, and the request has failed.
//!
//! The load runs in a thread of its own: whatever else the process does, the rate holds. It needs one file descriptor
//! for a request on its way and two for an idle connection, so a time-out of 5 s at 2,000 requests a second against a
//! service that answers nothing needs 10,000 (`ulimit -n`).
//!
//! ```no_run
//! # async fn example() -> deploykit_core::Result<()> {
//! use deploykit_testing::load::Load;
//!
//! let running = Load::new("http://127.0.0.1:8080").with_rate(500).start().await?;
//! // ... deploy ...
//! running.at_least(20_000).await;
//! let report = running.stop().await;
//! assert_eq!(report.tally.failed, 0, "{}", report.tally);
//! # Ok(())
//! # }
//! ```

mod client;
mod pace;
mod report;
mod socket;
mod target;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deploykit_core::{Error, ErrorKind, Result};
use tokio::sync::{oneshot, watch};

use client::Client;
use report::Recorder;
pub use report::{Latency, Report};
use target::Target;

/// How often a waiting caller looks: often enough to stop a load in time, seldom enough to cost nothing.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// An HTTP load that is to be put on a service; see the [module](self) for what it does and what counts as failed.
#[derive(Clone)]
#[must_use = "nothing is sent before `start`"]
pub struct Load {
    url: String,
    rate: u32,
    path: Option<String>,
    headers: Vec<(String, String)>,
    timeout: Duration,
    slow: bool,
    websocket: bool,
    websocket_held: Duration,
}

impl Load {
    /// A load on the service at `url`, for instance `http://127.0.0.1:8080`: 200 requests a second, a time-out of 5 s,
    /// each WebSocket held for 1.5 s.
    ///
    /// Only `http` is spoken. The host is resolved once, at the start. What is given here and in the setters is checked
    /// by [`start`](Self::start).
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            rate: 200,
            path: None,
            headers: Vec::new(),
            timeout: Duration::from_secs(5),
            slow: true,
            websocket: true,
            websocket_held: Duration::from_millis(1500),
        }
    }

    /// Requests per second, at least one. The WebSockets come on top.
    pub fn with_rate(mut self, requests_per_second: u32) -> Self {
        self.rate = requests_per_second;
        self
    }

    /// Path and query of the ordinary requests, instead of those of the URL.
    pub fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// A header for every request and WebSocket; it replaces one of the same name. Values are not shown by `Debug`.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How long a request may take from its start to the end of its answer, slow ones included; how long a WebSocket
    /// may take to open, and to close.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long each WebSocket is held open before it is closed from here.
    pub fn with_websocket_held(mut self, held: Duration) -> Self {
        self.websocket_held = held;
        self
    }

    /// Sends all requests to the ordinary path, for a service that has no `/slow`.
    pub fn without_slow(mut self) -> Self {
        self.slow = false;
        self
    }

    /// Opens no WebSocket, for a service that has no `/ws`.
    pub fn without_websocket(mut self) -> Self {
        self.websocket = false;
        self
    }

    /// Starts the load. It runs until [`Running::stop`] is called or the [`Running`] is dropped.
    ///
    /// A service that cannot be reached is not an error here: its requests count as failed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the URL, the rate, the path or a header cannot be used (the message names it);
    /// [`ErrorKind::NotFound`] when the host has no address; [`ErrorKind::Other`] when no thread can be started.
    pub async fn start(self) -> Result<Running> {
        let target = Target::resolve(&self).await?;
        let recorder = Arc::new(Recorder::new());
        let client = Arc::new(Client::new(target, self.timeout, Arc::clone(&recorder)));
        let held = self.websocket.then_some(self.websocket_held);
        let (stop, stopped) = watch::channel(());
        let (done, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("deploykit-load".to_owned());
        let load = pace::run(client, self.rate, held, stopped);
        let counts = Arc::clone(&recorder);
        let spawned = thread.spawn(move || pace::block_on(load, &counts, done));
        spawned.map_err(|error| {
            Error::new(ErrorKind::Other, "the load cannot start its thread").with_source(error)
        })?;
        Ok(Running { recorder, stop, ended })
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load")
            .field("rate", &self.rate)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A load that is running. Dropping it stops the load without waiting for what is in flight.
#[derive(Debug)]
#[must_use = "the load stops when this is dropped"]
pub struct Running {
    recorder: Arc<Recorder>,
    stop: watch::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl Running {
    /// The requests that have ended so far, failed ones and WebSockets included.
    pub fn requests(&self) -> u64 {
        self.recorder.requests()
    }

    /// How many of them have failed.
    pub fn failed(&self) -> u64 {
        self.recorder.failures()
    }

    /// The report as it stands. What is in flight is not in it.
    pub fn report(&self) -> Report {
        self.recorder.report()
    }

    /// Waits until this many requests have ended. Dropping the future is safe.
    pub async fn at_least(&self, requests: u64) {
        while self.requests() < requests {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Starts nothing new, closes the WebSocket, waits for what is in flight, and reports.
    ///
    /// Takes at most the time-out, twice that if the service neither opens nor closes the WebSocket. Dropping the future
    /// stops the load all the same, without waiting.
    pub async fn stop(self) -> Report {
        drop(self.stop);
        if self.ended.await.is_err() {
            self.recorder.unknown("its thread ended by itself");
        }
        self.recorder.report()
    }
}
