//! Runs of the example `docker`, built once.

use crate::cargo::{self, Workspace};
use crate::job::{Job, Result};
use crate::report::Report;

/// Longer than any rollout here may take, the slowest undoing included.
const LIMIT: u64 = 600;

pub(super) fn build(workspace: &Workspace) -> Result<()> {
    cargo::example(workspace, "docker", &["--release", "--features", "full"]).map(drop)
}

/// The places of the old version and of the new one, which a first rollout over a running service fills.
pub(super) const OLD_PLACE: &str = "A";
pub(super) const NEW_PLACE: &str = "B";

/// The rate at which shares are counted: nothing is replaced meanwhile that it could disturb.
const RATE_OF_SHARES: u32 = 1_000;

/// 1,000 clients, known by a cookie or a header, while the share of the new version grows.
pub(super) fn sticky(workspace: &Workspace, by: &'static str) -> Result<Outcome> {
    outcome(example(workspace, [("--sticky", by.to_owned())]))
}

/// One rollout by the example.
pub(super) struct Run {
    pub(super) strategy: &'static str,
    pub(super) replicas: u32,
    pub(super) requests: u64,
    /// Requests per second.
    pub(super) rate: u32,
    /// The way in which the new version is bad, when it is.
    pub(super) bad: Option<&'static str>,
    /// Ctrl-C when this step begins.
    pub(super) interrupt_at: Option<u32>,
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) code: Option<i32>,
    pub(super) report: Report,
    /// How many steps the plan has, by the progress lines; 0 when there was none.
    pub(super) steps: u32,
    /// The last step that began.
    pub(super) reached: u32,
    pub(super) last_lines: String,
}

impl Run {
    pub(super) fn new(strategy: &'static str, replicas: u32, requests: u64) -> Self {
        Self { strategy, replicas, requests, rate: 200, bad: None, interrupt_at: None }
    }

    pub(super) fn start(&self, workspace: &Workspace) -> Result<Outcome> {
        let mut options = vec![
            ("--strategy", self.strategy.to_owned()),
            ("--replicas", self.replicas.to_string()),
            ("--load", self.rate.to_string()),
            ("--requests", self.requests.to_string()),
        ];
        options.extend(self.bad.map(|bad| ("--bad", bad.to_owned())));
        let mut job = example(workspace, options);
        if let Some(wanted) = self.interrupt_at {
            job = job.interrupt_at(move |line| step(line).is_some_and(|(step, _)| step == wanted));
        }
        outcome(job)
    }
}

/// Both versions side by side, `tasks` of the old and of the new one, and a share of the requests for the new one.
pub(super) fn split(
    workspace: &Workspace,
    percent: u16,
    tasks: (u32, u32),
    requests: u64,
) -> Result<Outcome> {
    let (old, new) = tasks;
    let options = [
        ("--split", percent.to_string()),
        ("--replicas", old.to_string()),
        ("--beside", new.to_string()),
        ("--load", RATE_OF_SHARES.to_string()),
        ("--requests", requests.to_string()),
    ];
    outcome(example(workspace, options))
}

fn example(
    workspace: &Workspace,
    options: impl IntoIterator<Item = (&'static str, String)>,
) -> Job {
    let program = workspace.target.join("release/examples/docker");
    let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    let arguments = std::iter::once("--json".to_owned()).chain(options);
    Job::new(&program.to_string_lossy(), arguments).limit(LIMIT)
}

fn outcome(job: Job) -> Result<Outcome> {
    let done = job.outcome()?;
    let (reached, steps) = done.stdout.lines().rev().find_map(step).unwrap_or((0, 0));
    let last_lines = done.last_lines();
    Ok(Outcome { code: done.code, report: Report::of(&done)?, steps, reached, last_lines })
}

/// Which step of how many begins, in a line like `[  1.234s] step 3/9 wait until B is healthy`.
fn step(line: &str) -> Option<(u32, u32)> {
    let rest = line.strip_prefix('[')?.split_once("] step ")?.1;
    let (step, of) = rest.split_whitespace().next()?.split_once('/')?;
    Some((step.parse().ok()?, of.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_of_progress_names_a_step() {
        assert_eq!(step("[  1.234s] step 3/9 wait"), Some((3, 9)));
        assert_eq!(step("[ 12.000s] step 10/11"), Some((10, 11)));
        assert_eq!(step("undoing step 3/9"), None);
        assert_eq!(step("[  1.234s] routing A 1000"), None);
    }
}
