//! The runtime API, spoken to HAProxy's master: one command on one connection.
//!
//! The master passes commands on to its workers. There is one current worker, and after a reload the old ones for as long
//! as they have connections. An old one can be asked, but its servers cannot be changed any more.

use std::path::PathBuf;
use std::time::Duration;

use deploykit_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::answers::{Processes, Row, parse_processes, parse_rows, parse_variable, refused};

/// How long the answer to a command may take; HAProxy answers in well under a millisecond.
const ANSWER: Duration = Duration::from_secs(5);

/// While a reload goes on the master does not answer: so long it is asked again.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) const POLL: Duration = Duration::from_millis(10);

/// HAProxy's master, found by its socket (`haproxy -W -S <socket>`).
#[derive(Clone, Debug)]
pub(super) struct Runtime {
    socket: PathBuf,
}

impl Runtime {
    pub(super) fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Sends one line to the master and returns what it answers.
    pub(super) async fn ask(&self, line: &str) -> Result<String> {
        tracing::debug!(command = line, "haproxy");
        let failed = |error: std::io::Error| {
            let hint = match error.kind() {
                std::io::ErrorKind::PermissionDenied => "run as the user that started HAProxy",
                _ => "check that HAProxy runs, as haproxy -W -S <this socket>",
            };
            let what = format!("HAProxy's socket {} cannot be reached", self.socket.display());
            Error::new(ErrorKind::Unavailable, what).with_hint(hint).with_source(error)
        };
        let exchange = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            stream.write_all(format!("{line}\n").as_bytes()).await?;
            stream.shutdown().await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        match timeout(ANSWER, exchange).await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(failed(std::io::ErrorKind::TimedOut.into())),
        }
    }

    /// Who serves; waits out a reload that is going on.
    pub(super) async fn processes(&self) -> Result<Processes> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask("show proc").await;
            match answer.map(|answer| parse_processes(&answer)) {
                Ok(Some(processes)) => return Ok(processes),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Ok(None) if Instant::now() >= deadline => {
                    let socket = self.socket.display();
                    let what = format!("HAProxy's socket {socket} names no worker that serves");
                    return Err(Error::new(ErrorKind::Unavailable, what).with_hint(
                        "it must be the master's socket: haproxy -W -S <socket>, not a stats socket",
                    ));
                }
                _ => sleep(POLL).await,
            }
        }
    }

    /// Sends a command to one worker.
    pub(super) async fn on(&self, worker: u32, command: &str) -> Result<String> {
        let answer = self.ask(&format!("@!{worker} {command}")).await?;
        if answer.is_empty() || answer.starts_with("Can't find the target PID") {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("HAProxy's worker {worker} has ended"),
            ));
        }
        Ok(answer)
    }

    /// Whether a worker is on its way out, or gone.
    pub(super) async fn is_stopping(&self, worker: u32) -> bool {
        match self.on(worker, "show info").await {
            Ok(info) => info.lines().any(|line| line == "Stopping: 1"),
            Err(_) => true,
        }
    }

    /// Sends commands that answer nothing when they succeed.
    pub(super) async fn quietly(&self, worker: u32, commands: &[String]) -> Result<()> {
        let commands: Vec<_> = commands.iter().map(|c| format!("@!{worker} {c}")).collect();
        let line = commands.join("; ");
        let answer = self.ask(&line).await?;
        if answer.trim().is_empty() {
            return Ok(());
        }
        Err(refused(&line, &answer))
    }

    /// The value of a process-wide text variable; none where there is no such variable.
    pub(super) async fn variable(&self, worker: u32, name: &str) -> Result<Option<String>> {
        let command = format!("get var {name}");
        let answer = self.on(worker, &command).await?;
        parse_variable(&command, &answer)
    }

    /// Sets a process-wide text variable; requests see either value, nothing between.
    pub(super) async fn set_variable(&self, worker: u32, name: &str, value: &str) -> Result<()> {
        let line = format!("experimental-mode on; @!{worker} set var {name} str({value})");
        let answer = self.ask(&line).await?;
        if answer.trim().is_empty() { Ok(()) } else { Err(refused(&line, &answer)) }
    }

    /// All servers of all backends.
    pub(super) async fn servers(&self, worker: u32) -> Result<Vec<Row>> {
        // All proxies, but of them only the servers (type 4).
        parse_rows(&self.on(worker, "show stat -1 4 -1").await?)
    }
}
