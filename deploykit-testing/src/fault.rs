//! Scripted failures.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deploykit_core::{Error, ErrorKind, ServiceName};

use crate::calls::Operation;
use crate::snapshot::Snapshot;

/// A scripted failure of a call to a provider, given to [`World::fail`](crate::World::fail).
///
/// It strikes the next call of its operation once, unless the `with_…` methods say otherwise.
///
/// ```
/// use deploykit_core::ErrorKind;
/// use deploykit_testing::{Fault, Operation};
///
/// let fault = Fault::error(Operation::Launch, ErrorKind::Unavailable).with_nth(2);
/// let fault = Fault::answer_lost(Operation::SetRouting).with_times(3);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Fault {
    operation: Operation,
    effect: Effect,
    delay: Duration,
    skip: u64,
    times: u64,
    service: Option<ServiceName>,
    when: Option<Condition>,
}

type Condition = Arc<dyn Fn(&Snapshot) -> bool + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Error(ErrorKind),
    AnswerLost,
    Delay,
}

impl Fault {
    /// The call fails, and has changed nothing.
    pub const fn error(operation: Operation, kind: ErrorKind) -> Self {
        Self::new(operation, Effect::Error(kind), Duration::ZERO)
    }

    /// The call does all that it should, and its answer is lost: the caller gets `Timeout`.
    pub const fn answer_lost(operation: Operation) -> Self {
        Self::new(operation, Effect::AnswerLost, Duration::ZERO)
    }

    /// The call hangs for `time`, and does what it should after that; given up before, it does nothing.
    pub const fn delay(operation: Operation, time: Duration) -> Self {
        Self::new(operation, Effect::Delay, time)
    }

    const fn new(operation: Operation, effect: Effect, delay: Duration) -> Self {
        Self { operation, effect, delay, skip: 0, times: 1, service: None, when: None }
    }

    /// Strikes from the `nth` call on, counted from now; 1 is the next one.
    pub fn with_nth(mut self, nth: u64) -> Self {
        self.skip = nth.saturating_sub(1);
        self
    }

    /// Strikes so many calls.
    pub fn with_times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Strikes every call, until [`World::heal`](crate::World::heal).
    pub fn always(self) -> Self {
        self.with_times(u64::MAX)
    }

    /// Lets the call hang for so long before it fails.
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Strikes, and counts, only calls for this service.
    pub fn with_service(mut self, service: &ServiceName) -> Self {
        self.service = Some(service.clone());
        self
    }

    /// Strikes, and counts, only calls that are made while the service that they are for is in such a state. Calls that are
    /// for no service, to the registry, are not struck. The condition must not ask the world: it waits for itself then.
    pub fn with_condition(
        mut self,
        when: impl Fn(&Snapshot) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.when = Some(Arc::new(when));
        self
    }

    /// Whether a call is one that this fault waits for; `look` shows the state of its service.
    pub(crate) fn concerns(
        &self,
        operation: Operation,
        service: Option<&ServiceName>,
        look: impl FnOnce() -> Option<Snapshot>,
    ) -> bool {
        self.operation == operation
            && (self.service.is_none() || self.service.as_ref() == service)
            && self.when.as_ref().is_none_or(|when| look().is_some_and(|snapshot| when(&snapshot)))
    }

    /// Counts a call that it concerns, and says whether it strikes it; never one that another fault has struck.
    pub(crate) fn strikes(&mut self, is_struck: bool) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if is_struck {
            return false;
        }
        self.times = self.times.saturating_sub(1);
        true
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.times == 0
    }

    pub(crate) fn fate(&self) -> Fate {
        let operation = self.operation;
        let made = "as the fault that was set asks for";
        let (before, after) = match self.effect {
            Effect::Error(kind) => {
                (Some(Error::new(kind, format!("{operation} failed, {made}"))), None)
            }
            Effect::AnswerLost => (
                None,
                Some(Error::new(
                    ErrorKind::Timeout,
                    format!("the answer to {operation} was lost, {made}"),
                )),
            ),
            Effect::Delay => (None, None),
        };
        Fate { delay: self.delay, before, after }
    }
}

/// What becomes of one call.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    pub(crate) delay: Duration,
    /// Fails before anything was done.
    pub(crate) before: Option<Error>,
    /// Fails after it was done.
    pub(crate) after: Option<Error>,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("operation", &self.operation)
            .field("effect", &self.effect)
            .field("delay", &self.delay)
            .field("skip", &self.skip)
            .field("times", &self.times)
            .field("service", &self.service)
            .field("conditional", &self.when.is_some())
            .finish()
    }
}
