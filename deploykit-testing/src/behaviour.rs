//! How a version behaves once it runs.

use std::time::Duration;

use crate::rng::Rng;

/// How a version behaves once it runs: [`good`](Self::good), or bad in one or several ways.
///
/// ```
/// use deploykit_testing::Behaviour;
/// use std::time::Duration;
///
/// let bad = Behaviour::good()
///     .starts_in(Duration::from_millis(300))
///     .errors_after_first_live_request();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Behaviour {
    pub(crate) start: Duration,
    pub(crate) stop: Duration,
    pub(crate) crashes: bool,
    pub(crate) never_ready: bool,
    pub(crate) errors: bool,
    pub(crate) dies_after: Option<Duration>,
    pub(crate) flaps: Option<(Duration, Duration)>,
    slow: Duration,
    /// How long its jobs run; none that never end.
    pub(crate) job_time: Option<Duration>,
    pub(crate) job_code: i64,
    pub(crate) job_says: &'static str,
}

/// A tenth of the start-up time, as jitter.
const JITTER: u32 = 10;
const FASTEST: Duration = Duration::from_millis(5);
const SLOWEST: Duration = Duration::from_millis(25);

impl Behaviour {
    /// Ready 200 ms after its start (and up to a tenth more, by the seed), gone 100 ms after SIGTERM, answers 200 in 5 to
    /// 25 ms; its jobs end after a second, with exit code 0. Like the service in the test images it drops what it is
    /// answering on SIGTERM: only draining saves that.
    pub const fn good() -> Self {
        Self {
            start: Duration::from_millis(200),
            stop: Duration::from_millis(100),
            crashes: false,
            never_ready: false,
            errors: false,
            dies_after: None,
            flaps: None,
            slow: Duration::ZERO,
            job_time: Some(Duration::from_secs(1)),
            job_code: 0,
            job_says: "",
        }
    }

    /// Sets how long it takes from its start until it is ready; up to a tenth is added, by the seed.
    pub const fn starts_in(mut self, time: Duration) -> Self {
        self.start = time;
        self
    }

    /// Sets how long it takes from SIGTERM until it is gone; it is killed when the service's grace period is shorter.
    pub const fn stops_in(mut self, time: Duration) -> Self {
        self.stop = time;
        self
    }

    /// Exits with code 3 when it should become ready. It is restarted, and exits again.
    pub const fn crashes(mut self) -> Self {
        self.crashes = true;
        self
    }

    /// Runs, and never becomes ready.
    pub const fn never_ready(mut self) -> Self {
        self.never_ready = true;
        self
    }

    /// Answers everything so much later.
    pub const fn slow(mut self, latency: Duration) -> Self {
        self.slow = latency;
        self
    }

    /// Each task answers its first live request well, and everything after that with status 500, tests and health checks
    /// included.
    pub const fn errors_after_first_live_request(mut self) -> Self {
        self.errors = true;
        self
    }

    /// Each task exits with code 1 so long after it became ready. It is restarted, and dies again.
    pub const fn dies_after(mut self, time: Duration) -> Self {
        self.dies_after = Some(time);
        self
    }

    /// Each task is healthy for `up`, then unhealthy for `down`, and so on.
    pub const fn flaps(mut self, up: Duration, down: Duration) -> Self {
        self.flaps = Some((up, down));
        self
    }

    /// Sets how long its jobs run.
    pub const fn jobs_end_in(mut self, time: Duration) -> Self {
        self.job_time = Some(time);
        self
    }

    /// Its jobs run until they are stopped.
    pub const fn jobs_never_end(mut self) -> Self {
        self.job_time = None;
        self
    }

    /// Its jobs exit with this code, and this last line.
    pub const fn jobs_exit_with(mut self, code: i64, line: &'static str) -> Self {
        self.job_code = code;
        self.job_says = line;
        self
    }

    pub(crate) fn start_time(&self, rng: &mut Rng) -> Duration {
        rng.between(self.start, self.start.saturating_add(self.start / JITTER))
    }

    pub(crate) fn latency(&self, rng: &mut Rng) -> Duration {
        self.slow.saturating_add(rng.between(FASTEST, SLOWEST))
    }
}
