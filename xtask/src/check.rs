//! `cargo xtask check`: all that can be said without running a test.

use std::collections::BTreeSet;
use std::path::Path;

use crate::cargo::{Workspace, dependencies, rust_files};
use crate::job::{Fault, Job, Result};
use crate::mutate;
use crate::named;
use crate::promises;
use crate::readme;
use crate::steps::Steps;

/// How many crates `deploykit-core` may pull in, itself not counted.
pub(crate) const CORE_CRATES: usize = 42;
/// What it must never pull in: cloud, Docker and HTTP belong to the crates around it. Each entry
/// stands for all crates whose names begin with it.
const NOT_IN_CORE: [&str; 4] = ["aws", "bollard", "reqwest", "hyper"];
/// From here on a file is worth a look; it is no failure.
const LONG_FILE: usize = 600;
/// A cold build of everything on two cores takes minutes, not more.
const BUILD_LIMIT: u64 = 1500;

/// Runs every check and fails with all that failed.
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::read()?;
    let mut steps = Steps::new();
    steps.step("fmt", || cargo("fmt --all --check"))?;
    steps.step("clippy", || {
        cargo("clippy --workspace --all-targets --all-features -- -D warnings")
    })?;
    steps.step("doc", || {
        let arguments = "doc --no-deps --workspace --all-features".split(' ');
        let job = Job::new("cargo", arguments).env("RUSTDOCFLAGS", "-Dwarnings");
        job.shown().limit(BUILD_LIMIT).run().map(drop)
    })?;
    steps.step("no feature", || cargo("check -p deploykit --no-default-features"))?;
    for feature in workspace.package("deploykit")?.features.keys() {
        if feature != "default" {
            steps.step(&format!("feature {feature}"), || {
                cargo(&format!("check -p deploykit --no-default-features --features {feature}"))
            })?;
        }
    }
    steps.step("dependencies of the core", core_is_small)?;
    steps.step("lines of a pipeline", || promises::pipeline(&workspace.root))?;
    steps.step("strategies", || promises::strategies(&workspace.root))?;
    steps.step("commands of the README", || readme::check(&workspace.root))?;
    steps.step("tests that documents name", || named::check(&workspace.root))?;
    steps.step("mutations fit", || mutate::check(&workspace.root))?;
    steps.end()?;
    note_long_files(&workspace.root);
    Ok(())
}

fn cargo(arguments: &str) -> Result<()> {
    Job::new("cargo", arguments.split(' ')).shown().limit(BUILD_LIMIT).run().map(drop)
}

fn core_is_small() -> Result<()> {
    let crates = dependencies("deploykit-core")?;
    println!("   {} crates, at most {CORE_CRATES}", crates.len());
    judge(&crates).map_err(|why| {
        Fault::Failed(format!("{why}; see `cargo tree -p deploykit-core -e normal`"))
    })
}

fn judge(crates: &BTreeSet<String>) -> std::result::Result<(), String> {
    if let Some(found) =
        crates.iter().find(|name| NOT_IN_CORE.iter().any(|start| name.starts_with(start)))
    {
        return Err(format!("deploykit-core must not pull in {found}"));
    }
    if crates.len() > CORE_CRATES {
        return Err(format!("deploykit-core pulls in {} crates", crates.len()));
    }
    Ok(())
}

fn note_long_files(root: &Path) {
    for path in rust_files(root) {
        let lines = std::fs::read_to_string(&path).unwrap_or_default().lines().count();
        if lines > LONG_FILE {
            let path = path.strip_prefix(root).unwrap_or(&path).display();
            println!("note: {path} has {lines} lines: more than one reason to exist?");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crates(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| format!("{name} v1.0.0")).collect()
    }

    #[test]
    fn one_crate_too_many_or_of_the_wrong_kind_is_found() {
        let many: Vec<_> = (0..=CORE_CRATES).map(|number| format!("c{number}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(judge(&crates(&many[1..])), Ok(()));
        assert!(judge(&crates(&many)).is_err());
        assert!(judge(&crates(&["aws-sdk-ecs"])).is_err());
        assert!(judge(&crates(&["serde", "hyper-util"])).is_err());
    }
}
