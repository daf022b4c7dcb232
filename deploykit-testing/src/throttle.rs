//! How often providers may be called.

use std::collections::BTreeMap;
use std::time::Duration;

use deploykit_core::{Error, ErrorKind};

use crate::calls::Operation;
use crate::state::{At, State};

/// How often a provider may be called, by all deployers of the world together, as all of an account are counted together:
/// a bucket of tokens, of which each call takes one. A call that finds none is
/// [`Throttled`](deploykit_core::ErrorKind::Throttled), and changes nothing.
///
/// ```
/// use deploykit_testing::{Throttle, World};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let world = World::new(42);
/// world.tune(|settings| {
///     // What ECS lets an account describe in a region, and an Application Load Balancer be changed.
///     settings.orchestrator_throttle = Some(Throttle::per_second(20).with_burst(100));
///     settings.balancer_throttle = Some(Throttle::per_second(3).with_burst(20));
/// });
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Throttle {
    burst: u32,
    /// Until a token that was taken is back.
    refill: Duration,
}

impl Throttle {
    /// So many calls a second, at least one, and as many at once.
    pub const fn per_second(calls: u32) -> Self {
        let calls = if calls == 0 { 1 } else { calls };
        // A bound of nanoseconds is never zero.
        Self { burst: calls, refill: Duration::from_nanos(1_000_000_000 / calls as u64) }
    }

    /// One call in each such time.
    pub const fn one_each(time: Duration) -> Self {
        Self { burst: 1, refill: time }
    }

    /// Sets how many calls there can be at once after a while without any: how many tokens the bucket holds.
    pub const fn with_burst(mut self, calls: u32) -> Self {
        self.burst = calls;
        self
    }
}

/// Who counts calls together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Provider {
    Registry,
    Orchestrator,
    Balancer,
}

/// When each provider's bucket is full again.
#[derive(Debug, Default)]
pub(crate) struct Buckets(BTreeMap<Provider, At>);

impl State {
    /// Takes a token for a call; the error where there is none.
    pub(crate) fn take_token(&mut self, operation: Operation) -> Option<Error> {
        let provider = operation.provider()?;
        let Throttle { burst, refill } = self.settings.throttle(provider)?;
        let full = self.calls.buckets.0.entry(provider).or_default();
        let next = (*full).max(self.now).saturating_add(refill);
        if next.saturating_sub(self.now) > refill.saturating_mul(burst) {
            let what = format!("{operation}: rate exceeded");
            return Some(
                Error::new(ErrorKind::Throttled, what)
                    .with_hint("call less often; see the throttles in Settings"),
            );
        }
        *full = next;
        None
    }
}
