//! `cargo xtask chaos`: real faults on real parts. What it does is in `examples/chaos`; here it is built and run.

use crate::cargo::{self, Workspace};
use crate::job::{Fault, Job, Result};
use crate::parts;

/// Longer than any number of kills that somebody waits for.
const LIMIT: u64 = 24 * 3600;
/// The exit code for a command line that cannot be read.
const USAGE: i32 = 2;

/// Runs it with these flags. Unlike the tests it removes only what it made itself: others may use the Engine.
pub(crate) fn run(flags: &[&str]) -> Result<()> {
    let workspace = Workspace::read()?;
    parts::bring(&workspace, false)?;
    // As the tests build it, so that nothing is compiled twice. Nothing is timed.
    let program = cargo::example(&workspace, "chaos", &["--workspace", "--all-features"])?;
    let done = Job::new(&program, flags).shown().limit(LIMIT).outcome()?;
    match done.code {
        Some(0) => Ok(()),
        Some(USAGE) => Err(Fault::Usage(format!("chaos {}", flags.join(" ")))),
        _ => Err(Fault::Failed("chaos: see above".into())),
    }
}
