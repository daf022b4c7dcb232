//! How often, and for how long, what failed is tried again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::{Error, ErrorKind, Result};

/// The longest pause after the first failure; after each further one it may be twice as long, up to the longest of all.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// So much longer than asked for is tried what a provider throttles.
const THROTTLED: Duration = Duration::from_secs(900);

/// Draws the pauses, so that those who failed together do not come again together: full jitter, which of the usual ways
/// causes the fewest calls (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). The same seed draws the same.
#[derive(Debug)]
pub(crate) struct Jitter {
    seed: u64,
    drawn: AtomicU64,
}

impl Jitter {
    pub(crate) fn new(seed: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        Self { seed: hasher.finish(), drawn: AtomicU64::new(0) }
    }

    /// A time up to `most`.
    fn draw(&self, most: Duration) -> Duration {
        let mut hasher = DefaultHasher::new();
        (self.seed, self.drawn.fetch_add(1, Ordering::Relaxed)).hash(&mut hasher);
        let steps = most.as_micros().try_into().unwrap_or(u64::MAX).saturating_add(1);
        Duration::from_micros(hasher.finish() % steps)
    }
}

/// How long something is tried. Time for which a provider asked to be left alone does not count, within reason.
#[derive(Debug)]
pub(super) struct Patience {
    /// None for ever.
    until: Option<Instant>,
    latest: Option<Instant>,
    last: Instant,
}

impl Patience {
    pub(super) fn new(within: Duration) -> Self {
        let last = Instant::now();
        let until = last.checked_add(within);
        let latest = until.and_then(|until| until.checked_add(THROTTLED));
        Self { until, latest, last }
    }

    /// How much of it is left after this try, which failed with `error` if it did.
    pub(super) fn after(&mut self, error: Option<&Error>) -> Duration {
        let now = Instant::now();
        if error.is_some_and(|error| error.kind() == ErrorKind::Throttled) {
            let longer = self.until.and_then(|until| until.checked_add(now - self.last));
            self.until = longer.min(self.latest);
        }
        self.last = now;
        self.until.map_or(Duration::MAX, |until| until.saturating_duration_since(now))
    }
}

/// Calls until it works, or fails in a way that does not pass, or `within` is over.
pub(crate) async fn insist<T, F>(
    jitter: &Jitter,
    within: Duration,
    mut call: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let (mut patience, mut most) = (Patience::new(within), FIRST_PAUSE);
    loop {
        let error = match call().await {
            Err(error) if error.is_temporary() => error,
            other => return other,
        };
        let pause = jitter.draw(most);
        if patience.after(Some(&error)) <= pause {
            return Err(error);
        }
        tracing::warn!(error = error.report(), "trying again");
        sleep(pause).await;
        most = (most * 2).min(LONGEST_PAUSE);
    }
}
