//! What every backend promises, asked of yours.
//!
//! A backend is right when calls to it can be repeated, lost, dropped in the middle, made in the wrong order, at the
//! same time, and on what is gone: the docs of [`Orchestrator`](deploykit_core::Orchestrator),
//! [`LoadBalancer`](deploykit_core::LoadBalancer), [`Registry`](deploykit_core::Registry) and
//! [`Store`](deploykit_core::Store) say what holds then. Here each of these promises is a case with a name.
//!
//! Say how to get at your backend, in a harness, and have it checked. Either all at once, where parts are dear, which
//! gives a table:
//!
//! ```
//! use std::sync::Arc;
//!
//! use deploykit_core::{MemoryStore, Store, async_trait};
//! use deploykit_testing::conformance::{self, StoreHarness};
//!
//! #[derive(Default)]
//! struct Memory(MemoryStore);
//!
//! #[async_trait]
//! impl StoreHarness for Memory {
//!     async fn open(&self) -> Arc<dyn Store> {
//!         Arc::new(self.0.clone())
//!     }
//! }
//!
//! #[tokio::main(flavor = "current_thread", start_paused = true)]
//! async fn main() {
//!     conformance::store(&Memory::default()).await.assert_kept();
//! }
//! ```
//!
//! or as one test for each promise, with an attribute for all of them and a harness that is made for each:
//!
//! ```
//! # use std::sync::Arc;
//! # use deploykit_core::{MemoryStore, Store, async_trait};
//! # use deploykit_testing::conformance::StoreHarness;
//! # #[derive(Default)]
//! # struct Memory(MemoryStore);
//! # #[async_trait]
//! # impl StoreHarness for Memory {
//! #     async fn open(&self) -> Arc<dyn Store> {
//! #         Arc::new(self.0.clone())
//! #     }
//! # }
//! deploykit_testing::store_conformance! {
//!     #[tokio::test(start_paused = true)]
//!     Memory::default()
//! }
//! ```
//!
//! Cases share nothing but the backend: each has a service of its own, and all of them may run at the same time. Which
//! apply is decided by the backend's capability. Nothing in them waits for a time: they wait for conditions, for as long
//! as the harness's `patience`, which only a failure ever needs. Leases are the exception, since they end by time; with
//! tokio's clock paused that is none.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken promise is a panic, as in any test"
)]

mod balancer;
mod jobs;
mod leases;
mod orchestrator;
mod registry;
mod routing;
mod store;
mod targets;

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use deploykit_core::{Result, ServiceName};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

pub use balancer::{BalancerHarness, balancer, check_balancer};
pub use orchestrator::{OrchestratorHarness, check_orchestrator, orchestrator};
pub use registry::{RegistryHarness, check_registry, registry};
pub use store::{StoreHarness, check_store, store};

/// How many cases run at once, where all are run: they mostly wait.
const AT_ONCE: usize = 8;

/// How often a call is dropped at a later pending point than before.
const DROPS: u32 = 8;

/// A name for a service that nobody else on this machine has: `cf-PROCESS-NUMBER`.
pub fn unique_service() -> ServiceName {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    ServiceName::new(format!("cf-{}-{number}", std::process::id())).unwrap()
}

/// What became of each promise.
#[derive(Clone, Debug)]
#[must_use]
pub struct Report {
    /// In the order of the suite.
    pub promises: Vec<(&'static str, Verdict)>,
}

/// What became of a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was kept.
    Kept,
    /// It was not, and this is what was seen.
    Broken(String),
    /// The backend cannot do what it is about, as its capability or the harness says.
    NotAsked,
}

impl Report {
    /// Checks that every promise was kept or not asked for.
    ///
    /// # Panics
    /// If one was broken, with the table.
    #[track_caller]
    pub fn assert_kept(&self) {
        let is_broken = |(_, verdict): &(_, Verdict)| matches!(verdict, Verdict::Broken(_));
        assert!(!self.promises.iter().any(is_broken), "broken promises\n{self}");
    }
}

/// A line for each promise.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (promise, verdict) in &self.promises {
            match verdict {
                Verdict::Kept => writeln!(f, "kept       {promise}")?,
                Verdict::NotAsked => writeln!(f, "not asked  {promise}")?,
                Verdict::Broken(why) => {
                    writeln!(f, "BROKEN     {promise}\n           {}", why.replace('\n', " "))?;
                }
            }
        }
        Ok(())
    }
}

/// What a case is played on: handles to the backend, and a service of its own.
#[async_trait]
trait Stage: Send + Sync {
    /// As the harness says.
    fn patience(&self) -> Duration;
    /// Leaves nothing behind.
    async fn clean(&self) {}
}

/// A promise, and what checks it.
struct Case<S> {
    name: &'static str,
    /// Whether it is asked of this backend.
    applies: fn(&S) -> bool,
    check: for<'a> fn(&'a S) -> BoxFuture<'a, ()>,
}

/// Makes the cases of a list of promises, each of a heading that says when it applies.
macro_rules! cases {
    ([] $($applies:ident: $($promise:ident)*;)*) => {
        vec![$($($crate::conformance::Case {
            name: stringify!($promise),
            applies: $applies,
            check: |on| Box::pin($promise(on)),
        },)*)*]
    };
}
use cases;

/// Makes a test of each promise of a list.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ([$attributes:tt $check:ident $harness:expr] $($applies:ident: $($promise:ident)*;)*) => {
        $($($crate::__conformance_test! { $attributes $check $promise $harness })*)*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_test {
    ([$($attribute:tt)*] $check:ident $promise:ident $harness:expr) => {
        $($attribute)*
        async fn $promise() {
            $crate::conformance::$check(&$harness, stringify!($promise)).await;
        }
    };
}

/// Why a case ended.
type Panic = Box<dyn Any + Send>;

/// How soon something that may pass is tried again.
const SOON: Duration = Duration::from_millis(10);

impl<S: Stage> Case<S> {
    /// Checks it, and cleans up however it ends. False: it is not asked of this backend.
    async fn play(
        &self,
        stage: impl Future<Output = S> + Send,
    ) -> std::result::Result<bool, Panic> {
        let stage = AssertUnwindSafe(stage).catch_unwind().await?;
        if !(self.applies)(&stage) {
            stage.clean().await;
            return Ok(false);
        }
        // Each wait within has its own bound and says what it waited for; this one is for calls that hang.
        let bound = stage.patience().saturating_mul(4);
        let check = tokio::time::timeout(bound, (self.check)(&stage));
        let checked = AssertUnwindSafe(check).catch_unwind().await;
        let cleaned = AssertUnwindSafe(stage.clean()).catch_unwind().await;
        if checked?.is_err() {
            return Err(Box::new(format!("it hangs: no end within {bound:?}")));
        }
        cleaned.map(|()| true)
    }
}

/// Plays one case, as a test.
async fn play_one<S: Stage>(
    cases: Vec<Case<S>>,
    promise: &str,
    stage: impl Future<Output = S> + Send,
) {
    let Some(case) = cases.iter().find(|case| case.name == promise) else {
        panic!("the suite has no promise {promise}");
    };
    if let Err(panic) = case.play(stage).await {
        resume_unwind(panic);
    }
}

/// Plays all cases, each on a stage of its own.
async fn play_all<S: Stage, F: Future<Output = S> + Send>(
    cases: Vec<Case<S>>,
    stage: impl Fn() -> F + Send + Sync,
) -> Report {
    let plays = cases.iter().map(|case| async {
        let verdict = match case.play(stage()).await {
            Ok(true) => Verdict::Kept,
            Ok(false) => Verdict::NotAsked,
            Err(panic) => Verdict::Broken(words(&panic)),
        };
        (case.name, verdict)
    });
    Report { promises: stream::iter(plays).buffered(AT_ONCE).collect().await }
}

fn words(panic: &Panic) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Makes a call and drops it at its `nth` pending point, 0 being the first, as a caller does that does not want it any
/// more; the answer, if it came before that.
async fn dropped<T>(nth: u32, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    let mut left = nth;
    poll_fn(|context| match call.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// At which pending points calls are dropped: the first ones, and ever further apart.
fn drops() -> impl Iterator<Item = u32> {
    (0..DROPS).map(|n| if n == 0 { 0 } else { 1 << (n - 1) })
}

/// Makes a call until it is answered with something else than a temporary failure, as the driver does.
async fn settled<T: Send, F: Future<Output = Result<T>> + Send>(
    patience: Duration,
    call: impl Fn() -> F + Send + Sync,
) -> Result<T> {
    let settle = async {
        loop {
            match call().await {
                Err(error) if error.is_temporary() => tokio::time::sleep(SOON).await,
                answer => return answer,
            }
        }
    };
    within(patience, "the call ends", settle).await
}

/// Waits for what is wanted, and no longer than the harness allows.
async fn within<T>(patience: Duration, wanted: &str, wait: impl Future<Output = T> + Send) -> T {
    let waited = tokio::time::timeout(patience, wait).await;
    waited.unwrap_or_else(|_| panic!("not within {patience:?}: {wanted}"))
}

fn always<S>(_: &S) -> bool {
    true
}
