use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::error::{Error, Result};
use crate::provider::{Entry, GateContext, HealthGate, Measurement};
use crate::time::human;

/// How long a connection over an entry has to stay open: a balancer accepts first, and hangs up when there is nobody
/// behind it.
const STAYS: Duration = Duration::from_millis(250);

/// Passes when every target of the candidate accepts a TCP connection.
///
/// By default it connects to each target directly, so the deployer must be able to reach them;
/// [`test_route`](Self::test_route) and [`live`](Self::live) connect over the balancer, which accepts connections whether or
/// not there is somebody behind it: there, a connection must also say something or stay open for 250 ms. It is closed
/// at once after that. A connection that is refused or dropped, or none within the time-out, is a failure of the
/// candidate; a candidate without a target is inconclusive.
///
/// It does real I/O, which does not fit paused virtual time: in the testing crate's world use that crate's gates or
/// [`gate_fn`](crate::gate_fn).
///
/// # Errors
/// [`measure`](HealthGate::measure) returns `Invalid` when there is nowhere to connect to: no test route is open, or the
/// service has no balancer. Then nothing was measured.
#[derive(Clone, Debug)]
pub struct TcpGate {
    whom: Whom,
    timeout: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Whom {
    EachTarget,
    TestRoute,
    Live,
}

impl TcpGate {
    /// A gate that connects to each target and waits 2 s for each connection.
    pub fn new() -> Self {
        Self { whom: Whom::EachTarget, timeout: Duration::from_secs(2) }
    }

    /// Connects over the test route, which reaches only the candidate.
    #[must_use]
    pub fn test_route(mut self) -> Self {
        self.whom = Whom::TestRoute;
        self
    }

    /// Connects as live clients do: to whatever the routing picks.
    #[must_use]
    pub fn live(mut self) -> Self {
        self.whom = Whom::Live;
        self
    }

    /// Sets how long a connection may take. Keep it below the judge's time-out, or a target that does not answer is
    /// inconclusive instead of a failure.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects, and looks whether the connection stays for as long as it has to.
    async fn connect(&self, target: &str, stays: Duration) -> Measurement {
        let began = Instant::now();
        let stream = match timeout(self.timeout, TcpStream::connect(target)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(why)) => return Measurement::fail(format!("no connection to {target}: {why}")),
            Err(_) => {
                return Measurement::fail(format!(
                    "no connection to {target} within {}",
                    human(self.timeout)
                ));
            }
        };
        let took = human(began.elapsed());
        if !stays.is_zero() {
            match timeout(stays, stream.peek(&mut [0])).await {
                Ok(Ok(0)) => {
                    return Measurement::fail(format!("{target} accepted and hung up at once"));
                }
                Ok(Err(why)) => {
                    return Measurement::fail(format!("{target} accepted and hung up: {why}"));
                }
                Ok(Ok(_)) | Err(_) => {}
            }
        }
        Measurement::pass(format!("connected to {target} in {took}"))
    }

    async fn connect_entry(&self, entry: Option<&Entry>, missing: &str) -> Result<Measurement> {
        let nowhere = |why: String| {
            Error::invalid(format!("TCP: {why}")).with_hint(
                "use it where that entry is there, or let it connect to the candidate's targets: TcpGate::new()",
            )
        };
        let url = &entry.ok_or_else(|| nowhere(missing.to_owned()))?.url;
        // Whatever is spoken there: each begins with a connection.
        let target = url.split_once("://").map_or(url.as_str(), |(_, target)| target);
        let target = target.split('/').next().unwrap_or_default();
        if target.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(nowhere(format!("the entry {url} names no port")));
        }
        Ok(self.connect(target, STAYS).await)
    }
}

impl Default for TcpGate {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl HealthGate for TcpGate {
    async fn measure(&self, context: &GateContext) -> Result<Measurement> {
        let (entry, missing) = match self.whom {
            Whom::EachTarget => {
                let all = context.targets.iter().map(|target| self.connect(target, Duration::ZERO));
                return Ok(Measurement::of_targets("TCP", &join_all(all).await));
            }
            Whom::TestRoute => (&context.test_entry, "no test route is open"),
            Whom::Live => {
                (&context.entry, "the service has no balancer that tells how it is reached")
            }
        };
        self.connect_entry(entry.as_ref(), missing).await
    }
}
