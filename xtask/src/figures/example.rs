//! Runs of the example `docker`, built once and started without cargo in between, so that a signal
//! reaches it alone.

use crate::cargo::Workspace;
use crate::job::{Job, Result};
use crate::report::Report;

/// Longer than any rollout here may take, the slowest undoing included.
const LIMIT: u64 = 600;

pub(super) fn build() -> Result<()> {
    let arguments = ["build", "--quiet", "--release", "--example", "docker"];
    let features = ["--features", "full"];
    Job::new("cargo", arguments.into_iter().chain(features)).shown().limit(1200).run().map(drop)
}

/// One run of the example.
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
        let mut arguments = vec!["--strategy".to_owned(), self.strategy.into(), "--json".into()];
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("--replicas", self.replicas.to_string());
        option("--load", self.rate.to_string());
        option("--requests", self.requests.to_string());
        if let Some(bad) = self.bad {
            option("--bad", bad.into());
        }
        let mut job = example(workspace, "docker", arguments);
        if let Some(wanted) = self.interrupt_at {
            job = job.interrupt_at(move |line| step(line).is_some_and(|(step, _)| step == wanted));
        }
        let done = job.outcome()?;
        let (reached, steps) = done.stdout.lines().rev().find_map(step).unwrap_or((0, 0));
        let last_lines = done.last_lines();
        Ok(Outcome { code: done.code, report: Report::of(&done)?, steps, reached, last_lines })
    }
}

/// One of the examples that were built.
fn example(workspace: &Workspace, name: &str, arguments: Vec<String>) -> Job {
    let program = workspace.target.join("release/examples").join(name);
    Job::new(&program.to_string_lossy(), arguments).limit(LIMIT)
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
