//! `cargo xtask simulate`: rollouts by the thousand, in a program of their own that is built in release.

use crate::job::{Job, Result};

/// A million and more take hours.
const LIMIT: u64 = 24 * 3600;

pub(crate) fn run(words: &[&str]) -> Result<()> {
    let arguments = ["run", "--quiet", "--release", "--package", "simulation", "--"];
    let arguments = arguments.iter().chain(words);
    Job::new("cargo", arguments).shown().limit(LIMIT).run().map(drop)
}
