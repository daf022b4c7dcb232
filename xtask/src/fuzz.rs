//! `cargo xtask fuzz`: what is read from outside is fed with anything, guided by the branches that it takes (libFuzzer).

use std::fs;
use std::path::Path;

use crate::cargo::Workspace;
use crate::job::{Fault, Job, Result, io};

/// One for each kind of input: `fuzz/targets/NAME.rs`, with its seeds in `fuzz/corpus/NAME`.
const TARGETS: [&str; 6] = ["image", "plan", "journal", "store", "haproxy", "manifest"];

/// How many seconds each gets as a part of the tests.
const BRIEF: u64 = 5;
/// A cold build on two cores.
const BUILD_LIMIT: u64 = 1200;
/// What a single input may take, and what comes on top of the time that is asked for.
const INPUT_LIMIT: u64 = 25;
const GRACE: u64 = 120;

pub(crate) fn run(words: &[&str]) -> Result<()> {
    let seconds = match words {
        [] => 60,
        ["--seconds", seconds] => {
            seconds.parse().ok().filter(|seconds| *seconds > 0).ok_or_else(|| {
                Fault::Failed(format!("--seconds {seconds:?}: give a number above 0"))
            })?
        }
        _ => return Err(Fault::Usage(format!("fuzz {}", words.join(" ")))),
    };
    let workspace = Workspace::read()?;
    build(&workspace, &["--release", "--package", "deploykit-fuzz", "--features", "engine"])?;
    each(&workspace, "release", seconds)
}

/// A short run of each, as a part of the tests: with what they have built already, since an optimised build takes longer than
/// the run itself.
pub(crate) fn briefly(workspace: &Workspace) -> Result<()> {
    build(workspace, &["--workspace", "--all-features"])?;
    each(workspace, "debug", BRIEF)
}

fn each(workspace: &Workspace, profile: &str, seconds: u64) -> Result<()> {
    let mut failed = Vec::new();
    for target in TARGETS {
        match one(workspace, profile, target, seconds) {
            Ok(found) => println!("   {target}: {found}"),
            Err(Fault::Failed(why)) => {
                println!("   {target}: FAILED");
                failed.push(format!("{target}: {why}"));
            }
            Err(fault) => return Err(fault),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Fault::Failed(failed.join("\n"))) }
}

/// Builds the targets. Of what they depend on only this workspace's crates are built in a way of their own.
fn build(workspace: &Workspace, how: &[&str]) -> Result<()> {
    let compiler = workspace.root.join("fuzz/instrument.sh");
    let bins = TARGETS.iter().flat_map(|target| ["--bin".into(), format!("fuzz_{target}")]);
    let arguments = ["build", "--quiet"].iter().chain(how).map(|word| (*word).to_owned());
    let job = Job::new("cargo", arguments.chain(bins));
    let job = job.env("RUSTC_WORKSPACE_WRAPPER", &compiler.to_string_lossy());
    job.shown().limit(BUILD_LIMIT).run().map(drop)
}

/// Runs one target for so long, and says what it did.
fn one(workspace: &Workspace, profile: &str, target: &str, seconds: u64) -> Result<String> {
    let ours = workspace.target.join("fuzz").join(target);
    let corpus = ours.join("corpus");
    fs::create_dir_all(&corpus).map_err(io(format!("make {}", corpus.display())))?;
    let program = workspace.target.join(profile).join(format!("fuzz_{target}"));
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let arguments = [
        // Both outputs in one, and all of it.
        "-c".into(),
        "exec \"$0\" \"$@\" 2>&1".into(),
        text(&program),
        format!("-max_total_time={seconds}"),
        format!("-timeout={INPUT_LIMIT}"),
        format!("-artifact_prefix={}/", text(&ours)),
        "-print_final_stats=1".into(),
        // What is found goes into the first, and is where the next run begins.
        text(&corpus),
        text(&workspace.root.join("fuzz/corpus").join(target)),
    ];
    let mut job = Job::new("sh", arguments).limit(seconds + GRACE);
    // Files are written and synced for each input.
    if Path::new("/dev/shm").is_dir() {
        job = job.env("TMPDIR", "/dev/shm");
    }
    let done = job.outcome()?;
    if done.code == Some(0) {
        return summary(&done.stdout).ok_or_else(|| {
            Fault::Failed(format!("it said nothing of what it did\n{}", done.last_lines()))
        });
    }
    let input = value(&done.stdout, "Test unit written to ").unwrap_or("that it did not keep");
    let panic = done.stdout.lines().skip_while(|line| !line.contains("panicked at")).take(3);
    let why: Vec<_> = panic.collect();
    Err(Fault::Failed(format!(
        "{}\n    the input is {input}\n    again: {} {input}",
        if why.is_empty() { done.last_lines() } else { why.join("\n    ") },
        program.display()
    )))
}

/// `12345 executions, 678 of 9012 branches`, of what libFuzzer printed.
fn summary(output: &str) -> Option<String> {
    let executions = value(output, "stat::number_of_executed_units: ")?;
    let covered = output.lines().rev().find_map(|line| value(line, "cov: "))?;
    let all = value(output, "PC tables (")?;
    Some(format!("{executions} executions, {covered} of {all} branches"))
}

/// The word after a text.
fn value<'a>(output: &'a str, before: &str) -> Option<&'a str> {
    output.split_once(before)?.1.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_and_branches_are_read_from_what_the_engine_prints() {
        let output = "INFO: Loaded 1 PC tables (682 PCs): 682 [0x5,0x6),\n\
                      #7\tINITED cov: 12 ft: 20 corp: 3/9b\n\
                      #345604\tDONE   cov: 221 ft: 640 corp: 175/4864b\n\
                      stat::number_of_executed_units: 345604\n";
        assert_eq!(summary(output).unwrap(), "345604 executions, 221 of 682 branches");
        assert_eq!(summary("killed"), None);
    }
}
