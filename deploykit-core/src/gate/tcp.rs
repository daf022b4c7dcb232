use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::each::each_target;
use crate::error::Result;
use crate::provider::{GateContext, HealthGate, Measurement};
use crate::time::human;

/// Passes when every target of the candidate accepts a TCP connection.
///
/// Connects to each target directly, so the deployer must be able to reach them, and closes the connection at once. A
/// refused connection, or none within the time-out, is a failure of the candidate; a candidate without a target is
/// inconclusive.
///
/// It does real I/O, which does not fit paused virtual time: in the testing crate's world use that crate's gates or
/// [`gate_fn`](crate::gate_fn).
#[derive(Clone, Debug)]
pub struct TcpGate {
    timeout: Duration,
}

impl TcpGate {
    /// A gate that waits 2 s for each connection.
    pub fn new() -> Self {
        Self { timeout: Duration::from_secs(2) }
    }

    /// Sets how long a connection may take. Keep it below the judge's time-out, or a target that does not answer is
    /// inconclusive instead of a failure.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn connect(&self, target: &str) -> Measurement {
        let began = Instant::now();
        match timeout(self.timeout, TcpStream::connect(target)).await {
            Ok(Ok(_)) => {
                Measurement::pass(format!("connected to {target} in {}", human(began.elapsed())))
            }
            Ok(Err(why)) => Measurement::fail(format!("no connection to {target}: {why}")),
            Err(_) => Measurement::fail(format!(
                "no connection to {target} within {}",
                human(self.timeout)
            )),
        }
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
        Ok(each_target("TCP", &context.targets, |target| self.connect(target)).await)
    }
}
