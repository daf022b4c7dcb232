//! What gates and hooks that run a command share: starting it, reading its outputs, awaiting its end.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::future::{Either, join, select};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::error::{Error, ErrorKind, Result};
use crate::provider::{Entry, GateContext};

/// How much of the end of each of the two outputs is kept, in bytes.
const KEPT_BYTES: usize = 1_024;
/// How many lines of the end of each are told.
const KEPT_LINES: usize = 5;
/// How long output is read on after the command has ended: a process that it left behind may hold the output open.
const AFTER_THE_END: Duration = Duration::from_millis(200);

/// An environment variable; one without a value is removed, because the deployer may itself run in a command of an
/// outer one.
pub(crate) type Variable = (&'static str, Option<String>);

/// What is run, and with what.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) path: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
}

/// How it ended.
pub(crate) struct Ended {
    /// None where a signal ended it.
    pub(crate) code: Option<i32>,
    /// `make ended with exit code 2: <the last lines of both outputs>`
    pub(crate) told: String,
}

/// How users say what is run, on the type that holds a [`Program`].
macro_rules! program_setters {
    ($of:ident) => {
        impl $of {
            /// Runs this program, by its path or as found in `PATH`. No shell is involved.
            pub fn new(program: impl AsRef<std::ffi::OsStr>) -> Self {
                Self($crate::process::Program::new(program.as_ref().to_owned()))
            }

            /// Adds arguments.
            #[must_use]
            pub fn with_args<S: AsRef<std::ffi::OsStr>>(
                mut self,
                args: impl IntoIterator<Item = S>,
            ) -> Self {
                self.0.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
                self
            }

            /// Sets an environment variable.
            #[must_use]
            pub fn with_env(
                mut self,
                name: impl AsRef<std::ffi::OsStr>,
                value: impl AsRef<std::ffi::OsStr>,
            ) -> Self {
                self.0.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
                self
            }
        }
    };
}
pub(crate) use program_setters;

impl Program {
    pub(crate) fn new(path: OsString) -> Self {
        Self { path, args: Vec::new(), env: Vec::new() }
    }

    /// Runs it to its end; dropping this kills it. Errors call it `what`.
    pub(crate) async fn run(
        &self,
        what: &str,
        variables: impl IntoIterator<Item = Variable>,
    ) -> Result<Ended> {
        let program = self.path.display();
        let mut child = self.start(what, variables)?;
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
            Error::new(ErrorKind::Other, format!("{what} {program} cannot be waited for: {why}"))
        })?;
        let mut told = format!("{program} ended with {}", how(ended));
        for (n, line) in out.lines().chain(err.lines()).enumerate() {
            told.push_str(if n == 0 { ": " } else { " / " });
            told.push_str(&line);
        }
        Ok(Ended { code: ended.code(), told })
    }

    fn start(&self, what: &str, variables: impl IntoIterator<Item = Variable>) -> Result<Child> {
        let mut command = Command::new(&self.path);
        command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (name, value) in variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.spawn().map_err(|why| {
            let kind = match why.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::InvalidInput => ErrorKind::Invalid,
                _ => ErrorKind::Other,
            };
            let program = self.path.display();
            Error::new(kind, format!("{what} {program} cannot be started: {why}"))
                .with_hint("give the path of a program that the deployer's user can run")
        })
    }
}

/// Arguments and values of variables may be secrets.
impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Program")
            .field("path", &self.path)
            .field("env", &names)
            .finish_non_exhaustive()
    }
}

fn how(ended: ExitStatus) -> String {
    match ended.code() {
        Some(code) => format!("exit code {code}"),
        None => ended.to_string(),
    }
}

/// What every command is told about the rollout.
pub(crate) fn variables(context: &GateContext) -> [Variable; 10] {
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
