//! A provider as all rollouts of a deployer share it.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, ErrorKind, Result};
use crate::time::human;

/// How long one call to a provider may take. Less than half of the lease's time to live, so that a deployer that has
/// lost its lease has no call under way when its successor begins.
pub(crate) const CALL: Duration = Duration::from_secs(15);

/// So many calls in a row that cannot reach a provider, and it counts as down.
const DOWN: u32 = 5;
/// How long a provider that is down is left alone before one call looks whether it still is; at first, and at most.
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(5);
/// The time between two calls to a provider that throttles, at first and at most. Each throttled call doubles it, and each
/// call that is answered takes a fifth of it away, until too little is left to matter.
const FIRST_SPACING: Duration = Duration::from_millis(50);
const LONGEST_SPACING: Duration = Duration::from_secs(5);
const NO_SPACING: Duration = Duration::from_millis(5);
/// How long one waits for one's turn before one asks anew.
const LONGEST_TURN: Duration = Duration::from_secs(10);

/// A provider, and what its answers so far say about how to call it: one that throttles is called at intervals, in the
/// order of asking; one that is down by a single caller now and then, while all others are told so.
#[derive(Debug)]
pub(crate) struct Provided<P: ?Sized> {
    provider: Arc<P>,
    what: &'static str,
    state: Mutex<State>,
    /// Held by the next one to call a provider that throttles.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// Calls in a row that could not reach it, and why the last could not.
    failures: u32,
    why: String,
    rest: Duration,
    spacing: Duration,
    /// Nobody calls before.
    next: Instant,
    /// When `rest` or `spacing` grew last: calls that were under way then say nothing new.
    grew: Instant,
}

impl<P: ?Sized + Send + Sync> Provided<P> {
    pub(crate) fn new(what: &'static str, provider: Arc<P>) -> Self {
        let now = Instant::now();
        let state = State {
            failures: 0,
            why: String::new(),
            rest: Duration::ZERO,
            spacing: Duration::ZERO,
            next: now,
            grew: now,
        };
        Self { provider, what, state: Mutex::new(state), turn: tokio::sync::Mutex::default() }
    }

    /// A read or a plain change with the usual bound.
    pub(crate) async fn quick<T: Send>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.bounded(what, CALL, call).await
    }

    /// One call with a bound, which begins when the call does.
    pub(crate) async fn bounded<T: Send>(
        &self,
        what: &str,
        limit: Duration,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.wait().await?;
        let began = Instant::now();
        let result = timeout(limit, call).await.unwrap_or_else(|_| {
            let message = format!("{what}: no answer within {}", human(limit));
            Err(Error::new(ErrorKind::Timeout, message))
        });
        self.learn(began, result.as_ref().err());
        result
    }

    /// Waits until a call may be made.
    async fn wait(&self) -> Result<()> {
        if let Some(next) = self.is_down() {
            sleep_until(next).await;
            // Whoever comes first finds out; the others learn it from him.
            if self.is_down().is_some() {
                let message = format!("the {} is down: {}", self.what, self.lock().why);
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
        }
        if self.lock().spacing.is_zero() {
            return Ok(());
        }
        let turn = async {
            let _turn = self.turn.lock().await;
            let next = self.lock().next;
            sleep_until(next).await;
            let mut state = self.lock();
            state.next = Instant::now() + state.spacing;
        };
        // Whoever waits has to know that it is for this, because it costs him none of his time.
        timeout(LONGEST_TURN, turn).await.map_err(|_| {
            let message = format!("the {} asks to be called less often", self.what);
            Error::new(ErrorKind::Throttled, message)
        })
    }

    /// Whether it counts as down, and until when it is left alone. Says no to one who then has to call it.
    fn is_down(&self) -> Option<Instant> {
        let (mut state, now) = (self.lock(), Instant::now());
        if state.failures < DOWN {
            return None;
        }
        if now < state.next {
            return Some(state.next);
        }
        state.next = now + state.rest;
        None
    }

    fn learn(&self, began: Instant, error: Option<&Error>) {
        let (mut state, now) = (self.lock(), Instant::now());
        let is_new = began >= state.grew;
        match error.map(Error::kind) {
            Some(ErrorKind::Throttled) => {
                state.failures = 0;
                if is_new {
                    state.spacing = (state.spacing * 2).clamp(FIRST_SPACING, LONGEST_SPACING);
                    (state.next, state.grew) = (now + state.spacing, now);
                }
            }
            Some(ErrorKind::Unavailable | ErrorKind::Timeout) => {
                state.failures = state.failures.saturating_add(1);
                if state.failures >= DOWN && is_new {
                    state.why = error.map(Error::report).unwrap_or_default();
                    state.rest = (state.rest * 2).clamp(FIRST_REST, LONGEST_REST);
                    (state.next, state.grew) = (now + state.rest, now);
                }
            }
            _ => {
                state.spacing = state.spacing * 4 / 5;
                if state.spacing < NO_SPACING {
                    state.spacing = Duration::ZERO;
                }
                (state.failures, state.rest) = (0, Duration::ZERO);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: ?Sized> Deref for Provided<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.provider
    }
}
