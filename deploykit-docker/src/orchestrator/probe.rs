//! Asks tasks whether they are ready, where their image has no HEALTHCHECK.
//!
//! A task is asked every 20 ms for its first ten seconds, then less and less often down to once a second, and once a
//! second when it is ready. It is asked only while somebody observes the service.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use deploykit_core::Readiness;
use http::{Request, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::changes::lock;

/// The time between two attempts at first.
const EAGER: Duration = Duration::from_millis(20);
/// How long that goes on.
const EAGER_FOR: Duration = Duration::from_secs(10);
/// The longest time between two attempts.
const CALM: Duration = Duration::from_secs(1);
/// The time between two attempts on a task that should be ready and has just failed one.
const DOUBT: Duration = Duration::from_millis(100);
/// So many failures in a row count against a task that should be ready: one may be a moment's overload.
const FAILURES: u32 = 3;
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long the first observation of a task waits for what probing finds.
const FIRST: Duration = ATTEMPT;
/// How long a task without a port has to run to count as ready, and one with a port until it is told why it is not: what
/// cannot start at all has ended by then.
pub(super) const SETTLED: Duration = Duration::from_secs(1);
/// How long probing goes on when nobody observes any more.
const IDLE: Duration = Duration::from_secs(10);

/// What probing a task found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It never passed.
    NotYet { why: String },
    /// It never passed, and answers badly.
    Refuses { why: String },
    /// It passes.
    Passes,
    /// It passed once and does not any more.
    FailsNow { why: String },
}

/// What is to be probed.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// The container and the start that is meant: one that was started again is another one.
    pub(super) container: String,
    pub(super) started_at: String,
    /// How long ago that was, as far as it is known.
    pub(super) up: Duration,
    pub(super) address: Option<SocketAddr>,
    pub(super) readiness: Readiness,
}

type Key = (String, String);

/// The probes that go on.
#[derive(Debug, Default)]
pub(super) struct Probes(Arc<Mutex<HashMap<Key, Probe>>>);

#[derive(Debug)]
struct Probe {
    found: watch::Receiver<Option<Found>>,
    asked: Instant,
}

impl Probes {
    /// What probing finds now; it begins with the first question. `changed` is called when the answer changes later.
    pub(super) async fn ask(
        &self,
        subject: Subject,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Found {
        let mut found = {
            let mut probes = lock(&self.0);
            let key = (subject.container.clone(), subject.started_at.clone());
            let now = Instant::now();
            // Its end takes it out of the map, unless a runtime ended first.
            let live = probes.get_mut(&key).filter(|probe| probe.found.has_changed().is_ok());
            match live {
                Some(probe) => {
                    probe.asked = now;
                    probe.found.clone()
                }
                None => {
                    let (tell, found) = watch::channel(None);
                    probes.insert(key.clone(), Probe { found: found.clone(), asked: now });
                    let map = Arc::downgrade(&self.0);
                    tokio::spawn(probe(subject, key, map, tell, changed));
                    found
                }
            }
        };
        let first = timeout(FIRST, found.wait_for(Option::is_some)).await;
        let found = first.ok().and_then(Result::ok).and_then(|found| found.clone());
        found.unwrap_or_else(|| Found::NotYet { why: String::new() })
    }
}

async fn probe(
    subject: Subject,
    key: Key,
    map: Weak<Mutex<HashMap<Key, Probe>>>,
    tell: watch::Sender<Option<Found>>,
    changed: impl Fn(),
) {
    let began = Instant::now();
    let mut pause = EAGER;
    let mut failures = 0;
    loop {
        let up = subject.up.saturating_add(began.elapsed());
        let attempt = timeout(ATTEMPT, attempt(&subject, up)).await;
        let attempt = attempt.unwrap_or_else(|_| Err(format!("no answer in {ATTEMPT:?}")));
        let passed_before =
            !matches!(*tell.borrow(), None | Some(Found::NotYet { .. } | Found::Refuses { .. }));
        failures = if attempt.is_ok() { 0 } else { failures + 1 };
        // One that has run for long was probably ready before anybody looked from here.
        let in_doubt = failures < FAILURES && (passed_before || subject.up > EAGER_FOR);
        let found = match attempt {
            Ok(()) => Some(Found::Passes),
            Err(_) if in_doubt => None,
            Err(why) if passed_before => Some(Found::FailsNow { why }),
            // Whoever does not listen yet starts; whoever answers may say why it is not ready.
            Err(why) if why.contains(" answered ") => Some(Found::Refuses { why }),
            Err(why) => Some(Found::NotYet { why }),
        };
        pause = match found {
            None => DOUBT,
            Some(Found::Passes) => CALM,
            _ if began.elapsed() < EAGER_FOR => EAGER,
            _ => pause.mul_f32(1.5).min(CALM),
        };
        let is_news = tell.send_if_modified(|told| {
            let is_news = found.is_some() && *told != found;
            if is_news {
                *told = found;
            }
            is_news
        });
        if is_news {
            changed();
        }
        sleep(pause).await;
        let Some(map) = map.upgrade() else { return };
        let mut probes = lock(&map);
        if probes.get(&key).is_none_or(|probe| probe.asked.elapsed() > IDLE) {
            probes.remove(&key);
            return;
        }
    }
}

async fn attempt(subject: &Subject, up: Duration) -> Result<(), String> {
    match (&subject.readiness, subject.address) {
        (Readiness::Http { path }, Some(address)) => get(address, path).await,
        (Readiness::Tcp, Some(address)) => connect(address).await.map(|_| ()),
        (Readiness::Http { .. } | Readiness::Tcp, None) => Err("it has no address".into()),
        (Readiness::Running, _) if up >= SETTLED => Ok(()),
        (Readiness::Running, _) => Err("it has only just started".into()),
        (other, _) => Err(format!("readiness {other:?} is not known here")),
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| format!("connecting to {address}: {error}"))
}

async fn get(address: SocketAddr, path: &str) -> Result<(), String> {
    let failed = |error: &dyn std::error::Error| format!("GET http://{address}{path}: {error}");
    let stream = connect(address).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    // The header that tells tests from live requests.
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .header("x-deploykit-test", "readiness")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    // Dropping both ends the connection as soon as the status is known.
    let answer = tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    };
    let status = answer.map_err(|error| failed(&error))?.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("GET http://{address}{path} answered {}", status.as_u16()))
    }
}

/// Where a task is reached.
pub(super) fn socket(address: Option<IpAddr>, port: Option<u16>) -> Option<SocketAddr> {
    Some(SocketAddr::new(address?, port?))
}
