//! Child processes. Each has a time limit and a process group of its own, so that ending one ends
//! whatever it has started, and nothing outlives this program.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Why a command of xtask ended badly.
#[derive(Debug)]
pub(crate) enum Fault {
    /// What, why, and what to do next.
    Failed(String),
    /// A command line that is not understood.
    Usage(String),
    /// SIGINT, SIGTERM or SIGHUP came.
    Interrupted,
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(_) => ExitCode::FAILURE,
            Self::Usage(_) => ExitCode::from(2),
            Self::Interrupted => ExitCode::from(130),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => f.write_str(why),
            Self::Usage(given) => {
                write!(f, "`{given}` is not a command; `cargo xtask help` lists them")
            }
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// Makes a [`Fault`] of an input/output error, with what was tried.
pub(crate) fn io(what: impl fmt::Display) -> impl FnOnce(std::io::Error) -> Fault {
    move |why| Fault::Failed(format!("cannot {what}: {why}"))
}

static SIGNALLED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on a signal ends the running job first, and then this program in good order.
pub(crate) fn catch_signals() -> Result<()> {
    let flag = SIGNALLED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag)).map_err(io("catch signals"))?;
    }
    Ok(())
}

/// True once for each signal: the cleaning that follows an interruption is not interrupted by it.
pub(crate) fn take_signal() -> bool {
    SIGNALLED.get().is_some_and(|flag| flag.swap(false, Ordering::SeqCst))
}

/// A silent job says that it still runs.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// cargo-nextest needs some 10 s to end its tests, which are in process groups of their own.
const GRACE: Duration = Duration::from_secs(15);
/// How many lines of an unseen output are shown when it failed.
const TAIL: usize = 40;

/// What a job has done.
#[derive(Debug)]
pub(crate) struct Done {
    /// The exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) took: Duration,
    tail: VecDeque<String>,
}

impl Done {
    /// The last lines of both outputs, for whoever has not seen them.
    pub(crate) fn last_lines(&self) -> String {
        self.tail.iter().map(|line| format!("    | {line}\n")).collect()
    }
}

/// Whether a line is the one that is waited for.
type IsWanted = Box<dyn Fn(&str) -> bool>;

/// One child process to run.
pub(crate) struct Job {
    what: String,
    command: Command,
    limit: Duration,
    shown: bool,
    interrupt_at: Option<IsWanted>,
}

impl Job {
    /// A job of at most five minutes whose output is shown only when it fails.
    pub(crate) fn new<A: AsRef<str>>(
        program: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let mut command = Command::new(program);
        let mut what = program.to_owned();
        for argument in arguments {
            what.push(' ');
            what.push_str(argument.as_ref());
            command.arg(argument.as_ref());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let limit = Duration::from_secs(300);
        Self { what, command, limit, shown: false, interrupt_at: None }
    }

    pub(crate) fn limit(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Passes the output on as it comes.
    pub(crate) fn shown(mut self) -> Self {
        self.shown = true;
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub(crate) fn within(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Sends SIGINT to the process, once, at the first line of standard output that is asked for.
    pub(crate) fn interrupt_at(mut self, wanted: impl Fn(&str) -> bool + 'static) -> Self {
        self.interrupt_at = Some(Box::new(wanted));
        self
    }

    /// Runs it; any exit code but 0 is a failure.
    pub(crate) fn run(self) -> Result<Done> {
        let (what, shown) = (self.what.clone(), self.shown);
        let done = self.outcome()?;
        match done.code {
            Some(0) => Ok(done),
            code => {
                let how = code.map_or_else(|| "by a signal".into(), |code| format!("with {code}"));
                // What was shown need not be shown again.
                let tail = if shown { String::new() } else { lines(&done.tail) };
                Err(Fault::Failed(format!("`{what}` ended {how}{tail}")))
            }
        }
    }

    /// Runs it; the exit code is for the caller to judge.
    pub(crate) fn outcome(mut self) -> Result<Done> {
        let started = Instant::now();
        let mut child = self.command.spawn().map_err(|why| {
            Fault::Failed(format!("cannot start `{}`: {why}; is it installed?", self.what))
        })?;
        let (sender, output) = channel();
        forward(child.stdout.take(), true, &sender);
        forward(child.stderr.take(), false, &sender);
        drop(sender);
        let mut seen = Seen { job: self, stdout: String::new(), tail: VecDeque::new() };
        let status = seen.follow(&mut child, &output, started);
        // Whatever it has left behind in its group ends with it, and so do its hands on our pipes.
        signal_group(&child, "KILL");
        let status = status?;
        let until = Instant::now() + Duration::from_secs(2);
        while let Ok(line) = output.recv_timeout(until.saturating_duration_since(Instant::now())) {
            seen.line(&child, line);
        }
        let took = started.elapsed();
        Ok(Done { code: status.code(), stdout: seen.stdout, took, tail: seen.tail })
    }
}

type Line = (bool, String);

/// Sends the lines of one pipe. The thread ends with the pipe.
fn forward(pipe: Option<impl Read + Send + 'static>, is_stdout: bool, to: &Sender<Line>) {
    let Some(pipe) = pipe else { return };
    let to = to.clone();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut bytes = Vec::new();
        // By bytes: a test may print what is not UTF-8.
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            if to.send((is_stdout, line)).is_err() {
                return;
            }
            bytes.clear();
        }
    });
}

/// A running job and what it has said.
struct Seen {
    job: Job,
    stdout: String,
    tail: VecDeque<String>,
}

impl Seen {
    /// Until the process itself ends, or has to be ended.
    fn follow(
        &mut self,
        child: &mut Child,
        output: &Receiver<Line>,
        started: Instant,
    ) -> Result<std::process::ExitStatus> {
        let mut heard = Instant::now();
        loop {
            match output.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => {
                    heard = Instant::now();
                    self.line(child, line);
                    // Lines first: a process that prints for ever is still bounded below.
                    if started.elapsed() < self.job.limit {
                        continue;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Both pipes are closed; the end is near, or it has only closed its output.
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(Duration::from_millis(10))
                }
            }
            if let Some(status) = child.try_wait().map_err(io("wait for a child process"))? {
                return Ok(status);
            }
            if take_signal() {
                end(child)?;
                return Err(Fault::Interrupted);
            }
            let (ran, limit) = (started.elapsed(), self.job.limit);
            if ran >= limit {
                end(child)?;
                while let Ok((_, line)) = output.try_recv() {
                    self.keep(line);
                }
                return Err(Fault::Failed(format!(
                    "`{}` was ended: it ran for more than {} s{}",
                    self.job.what,
                    limit.as_secs(),
                    lines(&self.tail)
                )));
            }
            if heard.elapsed() >= HEARTBEAT {
                heard = Instant::now();
                println!("    ... {} s of at most {} s", ran.as_secs(), limit.as_secs());
            }
        }
    }

    fn line(&mut self, child: &Child, (is_stdout, line): Line) {
        if self.job.shown {
            println!("{line}");
        }
        if is_stdout {
            self.stdout.push_str(&line);
            self.stdout.push('\n');
            if self.job.interrupt_at.as_ref().is_some_and(|wanted| wanted(&line)) {
                self.job.interrupt_at = None;
                signal(&child.id().to_string(), "INT");
            }
        }
        self.keep(line);
    }

    fn keep(&mut self, line: String) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }
}

fn lines(tail: &VecDeque<String>) -> String {
    if tail.is_empty() {
        return String::new();
    }
    let lines: Vec<_> = tail.iter().map(|line| format!("\n    | {line}")).collect();
    format!("; its last lines:{}", lines.concat())
}

/// Asks the group to end, and ends it after the grace period.
fn end(child: &mut Child) -> Result<()> {
    signal_group(child, "TERM");
    let until = Instant::now() + GRACE;
    while child.try_wait().map_err(io("wait for a child process"))?.is_none() {
        if Instant::now() >= until {
            signal_group(child, "KILL");
            child.wait().map_err(io("wait for a child process"))?;
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn signal_group(child: &Child, name: &str) {
    signal(&format!("-{}", child.id()), name);
}

/// By the shell's own `kill`: the standard library can only kill one process, and slim systems have
/// no `kill` program. A target that is gone already is fine.
fn signal(target: &str, name: &str) {
    let _ = Command::new("sh")
        .args(["-c", &format!("kill -s {name} -- {target}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Job {
        Job::new("sh", ["-c", script])
    }

    #[test]
    fn a_failure_shows_the_last_lines_of_both_outputs() {
        let fault = shell("echo one; echo two >&2; exit 7").run().unwrap_err().to_string();
        assert!(fault.contains("ended with 7"), "{fault}");
        assert!(fault.contains("| one") && fault.contains("| two"), "{fault}");
    }

    #[test]
    fn the_limit_ends_the_whole_group() {
        let file = std::env::temp_dir().join(format!("xtask-group-{}", std::process::id()));
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let fault = shell(&script).limit(1).run().unwrap_err().to_string();
        assert!(fault.contains("more than 1 s"), "{fault}");
        let pid = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(is_gone(pid.trim()));
    }

    #[test]
    fn what_stays_in_the_background_does_not_outlive_the_job() {
        let started = Instant::now();
        let done = shell("sleep 600 & echo $!").run().unwrap();
        assert!(is_gone(done.stdout.trim()));
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_line_of_output_can_ask_for_sigint() {
        let script = "trap 'echo caught; exit 5' INT; echo step 1; echo step 2; while :; do sleep 0.01; done";
        let done = shell(script).limit(60).interrupt_at(|line| line == "step 2").outcome().unwrap();
        assert_eq!(done.code, Some(5));
        assert!(done.stdout.ends_with("caught\n"));
    }

    /// Gone, or dead and not yet collected by its parent.
    fn is_gone(pid: &str) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
                Ok(stat) if !stat.contains(") Z") => std::thread::yield_now(),
                _ => return true,
            }
        }
        false
    }
}
