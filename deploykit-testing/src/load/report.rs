//! What is counted, and the counting.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Tally;

/// Who has answered when the answer has no `x-version` header.
const UNNAMED: &str = "unnamed";

/// What has become of a real load. WebSockets count as requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The counts, by what the answers' `x-version` header says; a good answer without one is by `unnamed`, a bad one (a
    /// load balancer's own 503) by `nobody`. In JSON its fields stand among those of the report.
    #[serde(flatten)]
    pub tally: Tally,
    /// Failed requests by kind: `connect`, `reset`, `timeout`, `status`, `websocket`; `load` is a fault of the load.
    pub failed_how: BTreeMap<String, u64>,
    /// How many of the requests were a POST.
    pub posts: u64,
    /// How many went to the slow path.
    pub slow: u64,
    /// How many were sent on a connection that had carried one before.
    pub reused: u64,
    /// How many were WebSockets.
    pub websockets: u64,
    /// How long the ordinary requests took.
    pub latency: Latency,
    /// By how much the latest request was started too late, in milliseconds. Some 2 ms are the timer's; much more means
    /// that the machine was too busy to keep the rate.
    pub late_ms: u64,
    /// Time since the start, in milliseconds.
    pub elapsed_ms: u64,
}

/// How long requests took from connecting to the end of the answer, in milliseconds.
///
/// Only those that were served, without the slow ones and the WebSockets. All zero when there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// Half took no longer.
    pub p50_ms: f64,
    /// 95 % took no longer.
    pub p95_ms: f64,
    /// 99 % took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Latency {
    fn of(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        // Nearest rank: the smallest value that at least this share does not exceed.
        let rank = |percent: usize| {
            let rank = (micros.len() * percent).div_ceil(100);
            let micros = micros.get(rank.saturating_sub(1)).copied();
            f64::from(micros.unwrap_or_default()) / 1000.0
        };
        Self { p50_ms: rank(50), p95_ms: rank(95), p99_ms: rank(99), max_ms: rank(100) }
    }
}

/// How a request has failed: one of the kinds of [`Report::failed_how`], and the story.
#[derive(Debug)]
pub(super) struct Why {
    how: &'static str,
    detail: String,
}

impl Why {
    pub(super) fn new(how: &'static str, detail: impl Display) -> Self {
        let detail = detail.to_string();
        Self { how, detail }
    }

    pub(super) fn timeout(limit: Duration) -> Self {
        Self::new("timeout", format_args!("not done after {limit:?}"))
    }
}

/// What a request was.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Request { post: bool, slow: bool, reused: bool },
    WebSocket,
}

impl Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Request { post, slow, reused } = self else {
            return f.write_str("WebSocket");
        };
        let method = if *post { "POST" } else { "GET" };
        let slow = if *slow { "slow " } else { "" };
        let connection = if *reused { "used" } else { "new" };
        write!(f, "{slow}{method} on a {connection} connection")
    }
}

#[derive(Debug)]
pub(super) struct Recorder {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    report: Report,
    micros: Vec<u32>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), state: Mutex::default() }
    }

    /// A request that has ended; `place` is the one whose answer had at least begun.
    pub(super) fn record(
        &self,
        what: What,
        place: Option<String>,
        took: Duration,
        result: Result<(), Why>,
    ) {
        let mut state = self.state();
        let State { report, micros } = &mut *state;
        match what {
            What::Request { post, slow, reused } => {
                report.posts += u64::from(post);
                report.slow += u64::from(slow);
                report.reused += u64::from(reused);
                if !slow && result.is_ok() {
                    micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
                }
            }
            What::WebSocket => report.websockets += 1,
        }
        match result {
            Ok(()) => report.tally.answered(place.as_deref().unwrap_or(UNNAMED)),
            Err(why) => report.failed(self.start.elapsed(), place, &what, &why),
        }
    }

    /// A request whose fate the load does not know; it must not pass for a good one.
    pub(super) fn unknown(&self, error: impl Display) {
        let why = Why::new("load", error);
        let at = self.start.elapsed();
        self.state().report.failed(at, None, &"a request", &why);
    }

    pub(super) fn started(&self, late: Duration) {
        let mut state = self.state();
        state.report.late_ms = state.report.late_ms.max(millis(late));
    }

    pub(super) fn requests(&self) -> u64 {
        self.state().report.tally.requests
    }

    pub(super) fn failures(&self) -> u64 {
        self.state().report.tally.failed
    }

    pub(super) fn report(&self) -> Report {
        let (mut report, micros) = {
            let state = self.state();
            (state.report.clone(), state.micros.clone())
        };
        report.latency = Latency::of(micros);
        report.elapsed_ms = millis(self.start.elapsed());
        report
    }

    /// A panic elsewhere leaves counters that are still the best there is.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    fn failed(&mut self, at: Duration, place: Option<String>, what: &dyn Display, why: &Why) {
        let Why { how, detail } = why;
        let text = format!("{what}: {how}: {detail}");
        *self.failed_how.entry((*how).to_owned()).or_default() += 1;
        match place {
            // The place has answered all of it, and badly; in the other cases the answer never came or broke off.
            Some(place) if *how == "status" => self.tally.answered_badly(at, &place, text),
            place => self.tally.lost(at, place.as_deref(), text),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
