use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, join, select};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::error::{Error, ErrorKind, Result};
use crate::provider::{Entry, GateContext, HealthGate, Measurement};

/// How much of the end of each of the two outputs is kept, in bytes.
const KEPT_BYTES: usize = 1_024;
/// How many lines of the end of each become evidence.
const KEPT_LINES: usize = 5;
/// How long output is read on after the command has ended: a process that it left behind may hold the output open.
const AFTER_THE_END: Duration = Duration::from_millis(200);

/// Runs a command; its exit code is the verdict.
///
/// | exit code | verdict |
/// |---|---|
/// | 0 | pass |
/// | 1 | fail |
/// | any other, or ended by a signal | inconclusive |
///
/// So a command that is not there (127 from a shell), is misused (2) or dies does not condemn the candidate. The last
/// lines of both outputs are the evidence and stand in the journal: print no secrets. The command gets the deployer's
/// environment, no input, and
///
/// | variable | holds |
/// |---|---|
/// | `DEPLOYKIT_SERVICE`, `DEPLOYKIT_ROLLOUT` | their names |
/// | `DEPLOYKIT_PLACE`, `DEPLOYKIT_REVISION` | those of the candidate |
/// | `DEPLOYKIT_STABLE_PLACE` | the place of the version that is replaced |
/// | `DEPLOYKIT_URL`, `DEPLOYKIT_HEADERS` | how live requests reach the service |
/// | `DEPLOYKIT_TEST_URL`, `DEPLOYKIT_TEST_HEADERS` | how testers reach the candidate |
/// | `DEPLOYKIT_TARGETS` | `host:port` of each target of the candidate, separated by commas |
///
/// Headers are `name: value`, one a line. What there is not is not set.
///
/// Dropping a measurement kills the command, but not what it started in the background; a script whose last command
/// takes long begins it with `exec`. The bound is the judge's time-out.
///
/// It does real I/O, which does not fit paused virtual time: in the testing crate's world use that crate's gates or
/// [`gate_fn`](crate::gate_fn).
///
/// ```
/// use deploykit_core::CommandGate;
///
/// let gate = CommandGate::new("sh").with_args(["-c", "curl -sf $DEPLOYKIT_TEST_URL/health || exit 1"]);
/// # let _ = gate;
/// ```
#[derive(Clone)]
pub struct CommandGate {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

impl CommandGate {
    /// Runs this program, by its path or as found in `PATH`. No shell is involved.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { program: program.as_ref().to_owned(), args: Vec::new(), env: Vec::new() }
    }

    /// Adds arguments.
    #[must_use]
    pub fn with_args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn with_env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    fn start(&self, context: &GateContext) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (name, value) in variables(context) {
            match value {
                Some(value) => command.env(name, value),
                // The deployer may itself run in a gate of an outer one.
                None => command.env_remove(name),
            };
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.spawn().map_err(|why| self.not_started(&why))
    }

    fn not_started(&self, why: &io::Error) -> Error {
        let kind = match why.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            io::ErrorKind::InvalidInput => ErrorKind::Invalid,
            _ => ErrorKind::Other,
        };
        let program = self.program.display();
        Error::new(kind, format!("gate command {program} cannot be started: {why}"))
            .with_hint("give the path of a program that the deployer's user can run")
    }
}

#[async_trait]
impl HealthGate for CommandGate {
    async fn measure(&self, context: &GateContext) -> Result<Measurement> {
        let mut child = self.start(context)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (mut out, mut err) = (Tail::default(), Tail::default());
        let ended = {
            let reading = pin!(join(out.fill(stdout), err.fill(stderr)));
            let ending = pin!(child.wait());
            match select(ending, reading).await {
                Either::Left((ended, reading)) => {
                    // Running out of time only means that what comes later is left out.
                    let _ = timeout(AFTER_THE_END, reading).await;
                    ended
                }
                Either::Right((_, ending)) => ending.await,
            }
        };
        let ended = ended.map_err(|why| {
            let program = self.program.display();
            Error::new(
                ErrorKind::Other,
                format!("gate command {program} cannot be waited for: {why}"),
            )
        })?;
        let mut evidence = format!("{} ended with {}", self.program.display(), how(ended));
        for (n, line) in out.lines().chain(err.lines()).enumerate() {
            evidence.push_str(if n == 0 { ": " } else { " / " });
            evidence.push_str(&line);
        }
        Ok(match ended.code() {
            Some(0) => Measurement::pass(evidence),
            Some(1) => Measurement::fail(evidence),
            _ => Measurement::inconclusive(evidence),
        })
    }
}

fn how(ended: ExitStatus) -> String {
    match ended.code() {
        Some(code) => format!("exit code {code}"),
        None => ended.to_string(),
    }
}

fn variables(context: &GateContext) -> [(&'static str, Option<String>); 10] {
    let url = |entry: &Option<Entry>| entry.as_ref().map(|entry| entry.url.clone());
    let headers = |entry: &Option<Entry>| {
        let headers = &entry.as_ref()?.headers;
        let lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    };
    let targets = (!context.targets.is_empty()).then(|| context.targets.join(","));
    [
        ("DEPLOYKIT_SERVICE", Some(context.service.to_string())),
        ("DEPLOYKIT_ROLLOUT", Some(context.rollout.to_string())),
        ("DEPLOYKIT_PLACE", Some(context.candidate.to_string())),
        ("DEPLOYKIT_REVISION", Some(context.revision.to_string())),
        ("DEPLOYKIT_STABLE_PLACE", context.stable.map(|place| place.to_string())),
        ("DEPLOYKIT_URL", url(&context.entry)),
        ("DEPLOYKIT_HEADERS", headers(&context.entry)),
        ("DEPLOYKIT_TEST_URL", url(&context.test_entry)),
        ("DEPLOYKIT_TEST_HEADERS", headers(&context.test_entry)),
        ("DEPLOYKIT_TARGETS", targets),
    ]
}

/// The end of an output.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    /// Reads to the end, so that the writer never waits for a reader, and keeps only the last of it.
    async fn fill(&mut self, from: Option<impl AsyncRead + Unpin>) {
        let Some(mut from) = from else { return };
        let mut piece = [0; KEPT_BYTES];
        // Output that cannot be read is only missing evidence.
        while let Ok(read @ 1..) = from.read(&mut piece).await {
            self.bytes.extend(piece.iter().take(read));
            let surplus = self.bytes.len().saturating_sub(KEPT_BYTES);
            self.cut |= surplus > 0;
            self.bytes.drain(..surplus);
        }
    }

    /// The last lines, fit to be printed.
    fn lines(&self) -> impl Iterator<Item = String> {
        let text = String::from_utf8_lossy(&self.bytes);
        let mut lines: Vec<_> = text
            .lines()
            .map(|line| line.replace(char::is_control, " ").trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        if self.cut
            && let Some(first) = lines.first_mut()
        {
            first.insert(0, '…');
        }
        let surplus = lines.len().saturating_sub(KEPT_LINES);
        lines.into_iter().skip(surplus)
    }
}

impl fmt::Debug for CommandGate {
    /// Arguments and values of variables may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("CommandGate")
            .field("program", &self.program)
            .field("env", &names)
            .finish_non_exhaustive()
    }
}
