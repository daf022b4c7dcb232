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

/// The processes behind a master.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Processes {
    /// How often it was reloaded.
    pub(super) reloads: u32,
    /// How many of the last reloads failed.
    pub(super) failed: u32,
    pub(super) current: u32,
    pub(super) old: Vec<u32>,
}

/// A server as a worker has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) backend: String,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) status: String,
    pub(super) check: String,
    pub(super) weight: u32,
    pub(super) in_flight: u64,
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
        let value = answer.trim().split_once("value=<").and_then(|(_, v)| v.strip_suffix('>'));
        match value {
            Some(value) => Ok(Some(value.to_owned())),
            None if answer.starts_with("Variable not found") => Ok(None),
            None => Err(cut_short(&command, &answer)),
        }
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

/// What is missing at an answer's end must not pass for what is not there: a target that cannot be seen would not be
/// drained.
fn cut_short(command: &str, answer: &str) -> Error {
    let end: String = answer.trim_end().chars().rev().take(80).collect();
    let end: String = end.chars().rev().collect();
    let what = format!("HAProxy's answer to {command:?} cannot be read; it ends with {end:?}");
    Error::new(ErrorKind::Unavailable, what).with_hint("if this stays so, see HAProxy's log")
}

pub(super) fn refused(command: &str, answer: &str) -> Error {
    let answer = answer.trim();
    Error::new(ErrorKind::Other, format!("HAProxy refused {command:?}: {answer}"))
}

/// None where there is no worker that serves.
fn parse_processes(text: &str) -> Option<Processes> {
    let mut found = Processes::default();
    let mut section = "";
    for line in text.lines() {
        if let Some(title) = line.strip_prefix('#') {
            section = title.trim();
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(pid), Some(kind)) = (words.next().and_then(|pid| pid.parse().ok()), words.next())
        else {
            continue;
        };
        match (kind, section) {
            // `1 master 2 [failed: 1] ...`
            ("master", _) => {
                found.reloads = words.next()?.parse().ok()?;
                let failed = words.nth(1)?.trim_end_matches(']');
                found.failed = failed.parse().ok()?;
            }
            // There can be several: a failed reload may leave one that is about to end. The last is the one that serves.
            ("worker", "workers") => found.current = pid,
            ("worker", _) => found.old.push(pid),
            _ => {}
        }
    }
    (found.current != 0).then_some(found)
}

/// Reads `show stat`: CSV whose first line names the columns.
fn parse_rows(text: &str) -> Result<Vec<Row>> {
    let mut lines = text.lines();
    let titles: Vec<_> =
        lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let column = |title: &str| {
        titles.iter().position(|t| *t == title).ok_or_else(|| {
            refused("show stat", text.lines().next().unwrap_or_default()).with_hint(format!(
                "its answer has no column {title}; HAProxy 2.6 or later is needed"
            ))
        })
    };
    let columns = ["pxname", "svname", "addr", "status", "check_status", "weight", "scur"];
    let columns = columns.into_iter().map(column).collect::<Result<Vec<_>>>()?;
    let unreadable = || cut_short("show stat", text);
    let mut rows = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let fields: Vec<_> = line.split(',').collect();
        let mut values = columns.iter().map(|n| fields.get(*n).copied().unwrap_or_default());
        let mut next = || values.next().unwrap_or_default().to_owned();
        rows.push(Row {
            backend: next(),
            name: next(),
            address: next(),
            status: next(),
            check: next(),
            weight: next().parse().map_err(|_| unreadable())?,
            in_flight: next().parse().map_err(|_| unreadable())?,
        });
    }
    // The last line is an empty one.
    if text.ends_with("\n\n") { Ok(rows) } else { Err(unreadable()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn current_and_old_workers_are_told_apart() {
        let text = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n\
                    1               master          3 [failed: 1]   0d00h01m09s     2.6.12-1\n\
                    # workers\n18              worker          0               0d00h00m01s     2.6.12-1\n\
                    # old workers\n8               worker          3               0d00h01m09s     2.6.12-1\n\
                    12              worker          1               0d00h01m09s     2.6.12-1\n\
                    # programs\n\n";
        let wanted = Processes { reloads: 3, failed: 1, current: 18, old: vec![8, 12] };
        assert_eq!(parse_processes(text), Some(wanted));
        assert_eq!(parse_processes("Unknown command: show proc\n"), None);
    }

    #[test]
    fn columns_are_found_by_name() {
        let text = "# scur,pxname,svname,addr,status,check_status,weight,\n\
                    7,web.A,t,10.0.0.1:80,UP,L7OK,1,\n\n";
        let rows = parse_rows(text).unwrap();
        assert_eq!((rows[0].in_flight, rows[0].address.as_str()), (7, "10.0.0.1:80"));
        assert!(parse_rows("# pxname,\n").unwrap_err().to_string().contains("svname"));
        // Wherever it is cut after its titles.
        for end in text.find('\n').unwrap() + 1..text.len() {
            let error = parse_rows(&text[..end]).unwrap_err();
            assert!(error.is_temporary(), "{end}: {error}");
        }
    }
}
