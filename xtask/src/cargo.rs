//! What `cargo metadata` says about the workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::job::{Fault, Job, Result};

/// The feature of a crate that turns on its tests against a real Docker Engine.
pub(crate) const DOCKER_TESTS: &str = "docker-tests";

/// The workspace as cargo sees it.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// One member.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Each feature and what it turns on.
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) examples: Vec<Example>,
}

/// One example of a member.
#[derive(Debug)]
pub(crate) struct Example {
    pub(crate) name: String,
    pub(crate) required_features: Vec<String>,
}

impl Workspace {
    pub(crate) fn read() -> Result<Self> {
        let done = Job::new("cargo", ["metadata", "--no-deps", "--format-version", "1"])
            .limit(60)
            .run()?;
        let metadata: Value = serde_json::from_str(&done.stdout)
            .map_err(|why| Fault::Failed(format!("`cargo metadata` printed no JSON: {why}")))?;
        Ok(Self {
            root: string(&metadata["workspace_root"]).into(),
            target: string(&metadata["target_directory"]).into(),
            packages: list(&metadata["packages"]).map(Package::parse).collect(),
        })
    }

    pub(crate) fn package(&self, name: &str) -> Result<&Package> {
        self.packages.iter().find(|package| package.name == name).ok_or_else(|| {
            Fault::Failed(format!("the workspace has no crate `{name}`; see Cargo.toml"))
        })
    }

    /// The arguments that turn on every feature of every member, the tests on real Docker only when
    /// asked for.
    pub(crate) fn features(&self, with_docker: bool) -> Vec<String> {
        if with_docker {
            return vec!["--all-features".into()];
        }
        let features: Vec<_> = self
            .packages
            .iter()
            .flat_map(|package| {
                let docker = package.enabling(DOCKER_TESTS);
                package
                    .features
                    .keys()
                    .filter(move |feature| !docker.contains(*feature))
                    .map(|feature| format!("{}/{feature}", package.name))
            })
            .collect();
        if features.is_empty() { Vec::new() } else { vec!["--features".into(), features.join(",")] }
    }
}

impl Package {
    fn parse(package: &Value) -> Self {
        let strings = |value: &Value| list(value).map(string).collect();
        Self {
            name: string(&package["name"]),
            features: package["features"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, enables)| (name.clone(), strings(enables)))
                .collect(),
            examples: list(&package["targets"])
                .filter(|target| list(&target["kind"]).any(|kind| kind == "example"))
                .map(|target| Example {
                    name: string(&target["name"]),
                    required_features: strings(&target["required-features"]),
                })
                .collect(),
        }
    }

    /// The feature itself and whatever turns it on, here or in another crate.
    pub(crate) fn enabling(&self, feature: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::from([feature.to_owned()]);
        loop {
            let more: Vec<_> = self
                .features
                .iter()
                .filter(|(name, enables)| {
                    !found.contains(*name)
                        && enables.iter().any(|enabled| {
                            found.contains(enabled) || enabled.ends_with(&format!("/{feature}"))
                        })
                })
                .map(|(name, _)| name.clone())
                .collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }
}

/// Builds an example, and gives its path: started without cargo in between, so that a signal reaches it alone.
pub(crate) fn example(workspace: &Workspace, name: &str, how: &[&str]) -> Result<String> {
    let arguments = ["build", "--quiet", "--example", name];
    Job::new("cargo", arguments.iter().chain(how)).shown().limit(1200).run()?;
    let profile = if how.contains(&"--release") { "release" } else { "debug" };
    let program = workspace.target.join(profile).join("examples").join(name);
    Ok(program.to_string_lossy().into_owned())
}

/// The unique crates that a package pulls in, itself excluded: as `name version`.
pub(crate) fn dependencies(package: &str) -> Result<BTreeSet<String>> {
    let done =
        Job::new("cargo", ["tree", "-p", package, "-e", "normal", "--prefix", "none"]).run()?;
    Ok(tree(&done.stdout, package))
}

fn tree(output: &str, package: &str) -> BTreeSet<String> {
    output
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?))
        })
        .filter(|(name, _)| *name != package)
        .map(|(name, version)| format!("{name} {version}"))
        .collect()
}

/// All `.rs` files below a directory, build output excluded.
pub(crate) fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files.extend(rust_files(&path));
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(features: &[(&str, &[&str])]) -> Package {
        Package {
            name: "p".into(),
            features: features
                .iter()
                .map(|(name, enables)| {
                    ((*name).into(), enables.iter().map(|one| (*one).into()).collect())
                })
                .collect(),
            examples: Vec::new(),
        }
    }

    #[test]
    fn without_docker_whatever_turns_its_tests_on_stays_off() {
        let packages = vec![package(&[
            ("docker", &["dep:d"]),
            ("docker-tests", &["docker", "d/docker-tests"]),
            ("everything", &["docker-tests"]),
            ("elsewhere", &["other/docker-tests"]),
        ])];
        let workspace = Workspace { root: "".into(), target: "".into(), packages };
        assert_eq!(workspace.features(false), ["--features", "p/docker"]);
        assert_eq!(workspace.features(true), ["--all-features"]);
    }

    #[test]
    fn a_crate_counts_once_and_the_root_not_at_all() {
        let output =
            "core v0.1.0 (/somewhere)\nserde v1.0.0\nserde v1.0.0 (*)\n\nsyn v2.0.0\nsyn v3.0.0\n";
        assert_eq!(tree(output, "core").len(), 3);
    }
}
