//! `cargo xtask mutate`: breaks each rule of safety on purpose, and sees whether the tests notice.

use std::path::{Path, PathBuf};

use crate::cargo::Workspace;
use crate::job::{Fault, Job, Result, io};

/// What the rules are kept in, and the tests that need no real part.
const TESTS: &str = "nextest run -p deploykit-core -p deploykit-testing -p simulation --all-features \
                     --status-level fail --failure-output never --success-output never";
/// A build and all tests; those of a mutation may hang until their own bound.
const LIMIT: u64 = 1200;
/// What cargo-nextest ends with when tests have failed. It is another code when they could not be built.
const TESTS_FAILED: i32 = 100;

/// What came of one mutation.
enum Found {
    /// By this test, and perhaps by others.
    Caught(String),
    Survived,
}

/// Applies each patch of `mutations` whose name contains one of these words, or all of them, to the last commit.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let workspace = Workspace::read()?;
    let is_meant = |path: &PathBuf| {
        let name = name(path);
        words.is_empty() || words.iter().any(|word| name.contains(word))
    };
    let patches: Vec<PathBuf> = patches(&workspace.root)?.into_iter().filter(is_meant).collect();
    if patches.is_empty() {
        return Err(Fault::Usage(format!("mutate {}", words.join(" "))));
    }
    let copy = Copy::new(&workspace)?;
    println!("== without any mutation");
    if let Found::Caught(test) = copy.test()? {
        return Err(Fault::Failed(format!("{test} fails without any mutation; mend that first")));
    }
    let mut survived = Vec::new();
    for (n, patch) in patches.iter().enumerate() {
        println!("== {} of {}: {}", n + 1, patches.len(), name(patch));
        copy.apply(patch)?;
        match copy.test()? {
            Found::Caught(test) => println!("   caught by {test}"),
            Found::Survived => {
                println!("   SURVIVED");
                survived.push(name(patch));
            }
        }
    }
    copy.remove()?;
    println!("{}", serde_json::json!({ "mutations": patches.len(), "survived": survived }));
    if survived.is_empty() {
        return Ok(());
    }
    Err(Fault::Failed(format!("no test noticed {}", survived.join(", "))))
}

/// Whether all of them fit the code as it is: one that does not is missed only when somebody needs it.
pub(crate) fn check(root: &Path) -> Result<()> {
    for patch in patches(root)? {
        let check = ["apply", "--check", &patch.display().to_string()];
        Job::new("git", check).within(root).run()?;
    }
    Ok(())
}

fn patches(root: &Path) -> Result<Vec<PathBuf>> {
    let directory = root.join("mutations");
    let entries = std::fs::read_dir(&directory).map_err(io("read the mutations"))?;
    let mut patches: Vec<PathBuf> = entries
        .map(|entry| Ok(entry.map_err(io("read a mutation"))?.path()))
        .collect::<Result<_>>()?;
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    Ok(patches)
}

fn name(patch: &Path) -> String {
    patch.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The last commit, in a directory of its own that is built apart.
struct Copy {
    root: PathBuf,
    directory: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn new(workspace: &Workspace) -> Result<Self> {
        let copy = Self {
            root: workspace.root.clone(),
            directory: workspace.target.join("mutate"),
            target: workspace.target.join("mutated"),
        };
        // One that was interrupted may have left it.
        let _ = copy.remove();
        let path = copy.path();
        copy.git(&copy.root, &["worktree", "add", "--quiet", "--detach", &path, "HEAD"])?;
        Ok(copy)
    }

    fn remove(&self) -> Result<()> {
        self.git(&self.root, &["worktree", "remove", "--force", &self.path()])
    }

    fn path(&self) -> String {
        self.directory.display().to_string()
    }

    fn git(&self, within: &Path, arguments: &[&str]) -> Result<()> {
        Job::new("git", arguments).within(within).run().map(drop)
    }

    fn apply(&self, patch: &Path) -> Result<()> {
        self.git(&self.directory, &["reset", "--quiet", "--hard"])?;
        self.git(&self.directory, &["apply", &patch.display().to_string()])
    }

    fn test(&self) -> Result<Found> {
        let job = Job::new("cargo", TESTS.split_whitespace()).within(&self.directory);
        let target = self.target.display().to_string();
        let done = job.env("CARGO_TARGET_DIR", &target).limit(LIMIT).outcome()?;
        match done.code {
            Some(0) => Ok(Found::Survived),
            Some(TESTS_FAILED) => Ok(Found::Caught(first_failure(&done.last_lines()))),
            _ => Err(Fault::Failed(format!("the tests could not be run\n{}", done.last_lines()))),
        }
    }
}

/// The first test that cargo-nextest says has failed.
fn first_failure(lines: &str) -> String {
    let failed = lines.lines().find_map(|line| {
        let line = line.trim_start_matches(['|', ' ']);
        let rest = line.strip_prefix("FAIL [").or_else(|| line.strip_prefix("TIMEOUT ["))?;
        rest.rsplit(") ").next().map(str::to_owned)
    });
    failed.unwrap_or_else(|| "a test that was not named".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_that_caught_a_mutation_is_named() {
        let lines = "    |     Summary\n    |         FAIL [   0.313s] ( 2/4) deploykit-testing::rollouts down::it_is\n";
        assert_eq!(first_failure(lines), "deploykit-testing::rollouts down::it_is");
    }
}
