//! The Docker Engine, through its own command line client.

use std::collections::BTreeSet;
use std::path::Path;

use crate::job::{Done, Fault, Job, Result, io};

/// The label on every image that is made here. A container inherits it, so whatever runs from one
/// of these images is known to be a test's, however it was started.
const KEY_LABEL: &str = "deploykit-parts.key";
/// The label that tests put on what they create themselves.
const TEST_LABEL: &str = "deploykit.test";
/// What the Docker provider labels its networks with begins like this.
const OWN_LABELS: &str = "deploykit.";

/// Runs one command of the client.
fn docker<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Done> {
    Job::new("docker", arguments).limit(120).run()
}

/// The version of the Engine, or why there is none to talk to.
pub(crate) fn engine() -> Result<String> {
    let done = Job::new("docker", ["version", "--format", "{{.Server.Version}}"])
        .limit(15)
        .outcome()
        .map_err(|_| Fault::Failed("no `docker` command; install Docker's client".into()))?;
    match done.code {
        Some(0) => Ok(done.stdout.trim().to_owned()),
        _ => Err(Fault::Failed(
            "no Docker Engine answers; start it, or set DOCKER_HOST to one that runs".into(),
        )),
    }
}

/// Whether the image was made from what `key` stands for.
pub(crate) fn is_current(image: &str, key: &str) -> Result<bool> {
    let format = format!("{{{{index .Config.Labels \"{KEY_LABEL}\"}}}}");
    let done =
        Job::new("docker", ["image", "inspect", "--format", &format, image]).limit(30).outcome()?;
    Ok(done.code == Some(0) && done.stdout.trim() == key)
}

/// Makes an image of one layer from a directory tree, without a base image and without a build:
/// both need a registry or a build kit, which are not always there.
pub(crate) fn import(image: &str, key: &str, tree: &Path, changes: &[String]) -> Result<()> {
    let archive = tree.with_extension("tar");
    let (from, to) = (tree.to_string_lossy(), archive.to_string_lossy());
    Job::new("tar", ["--owner=0", "--group=0", "--numeric-owner", "-C", &from, "-cf", &to, "."])
        .run()?;
    let mut arguments = vec!["import".to_owned(), "--change".into(), label(key)];
    for change in changes {
        arguments.extend(["--change".into(), change.clone()]);
    }
    arguments.extend([to.clone().into_owned(), image.into()]);
    docker(arguments.iter().map(String::as_str))?;
    remove_replaced()?;
    std::fs::remove_file(&archive).map_err(io(format_args!("remove {to}")))
}

/// Pulls an official image and keeps it under our name, with our label and the given changes.
pub(crate) fn adopt(official: &str, image: &str, key: &str, changes: &[String]) -> Result<()> {
    // Where no registry can be reached this fails at once, or never: hence the short limit.
    Job::new("docker", ["pull", "--quiet", official]).limit(60).run()?;
    // A commit cannot take an entry point away, a container made without one can.
    let container = docker(["create", "--entrypoint", "", official, "none"])?;
    let container = container.stdout.trim().to_owned();
    let mut arguments = vec!["commit".to_owned(), "--change".into(), label(key)];
    for change in changes {
        arguments.extend(["--change".into(), change.clone()]);
    }
    arguments.extend([container.clone(), image.into()]);
    let committed = docker(arguments.iter().map(String::as_str));
    docker(["rm", "--volumes", &container])?;
    committed?;
    remove_replaced()
}

/// Images of ours that have lost their name to a newer one, unless something still runs from them.
fn remove_replaced() -> Result<()> {
    docker(["image", "prune", "--force", "--filter", &with(KEY_LABEL)]).map(drop)
}

fn label(key: &str) -> String {
    format!("LABEL {KEY_LABEL}={key}")
}

/// Removes what tests have left: containers, the networks that held them, volumes, and the test
/// images that were pulled back from a test's own registry. Nothing else on the Engine is touched.
pub(crate) fn remove_leftovers() -> Result<String> {
    let mut containers = BTreeSet::new();
    for label in [TEST_LABEL, KEY_LABEL] {
        containers.extend(names(&["ps", "--all", "--quiet", "--filter", &with(label)])?);
    }
    let mut networks: BTreeSet<_> =
        names(&["network", "ls", "--quiet", "--filter", &with(TEST_LABEL)])?.into_iter().collect();
    if !containers.is_empty() {
        let format = "{{range $name, $value := .NetworkSettings.Networks}}{{$name}} {{end}}";
        let ids = containers.iter().map(String::as_str);
        // By name: a container that was never started does not know its networks' ids yet.
        // One that has just gone makes this fail; its network is found the next time.
        let held = Job::new("docker", ["inspect", "--format", format].into_iter().chain(ids))
            .limit(60)
            .outcome()?;
        for network in held.stdout.split_whitespace() {
            if is_ours(network)? {
                networks.insert(network.to_owned());
            }
        }
        remove(&["rm", "--force", "--volumes"], &containers)?;
    }
    remove(&["network", "rm"], &networks)?;
    let volumes =
        names(&["volume", "ls", "--quiet", "--filter", &with(TEST_LABEL)])?.into_iter().collect();
    remove(&["volume", "rm"], &volumes)?;
    let format = "{{.Repository}}:{{.Tag}}@{{.Digest}}";
    let images = ["images", "--digests", "--filter", &with(KEY_LABEL), "--format", format];
    let images = names(&images)?.iter().filter_map(|image| test_registry(image)).collect();
    remove(&["rmi", "--force"], &images)?;
    Ok(format!(
        "removed what tests had left: {} containers, {} networks, {} volumes, {} images",
        containers.len(),
        networks.len(),
        volumes.len(),
        images.len()
    ))
}

fn with(label: &str) -> String {
    format!("label={label}")
}

fn names(arguments: &[&str]) -> Result<Vec<String>> {
    let done = docker(arguments.iter().copied())?;
    Ok(done.stdout.lines().map(str::to_owned).collect())
}

/// Whether the provider or a test made the network: Docker's own `bridge` has no labels.
fn is_ours(network: &str) -> Result<bool> {
    let format = "{{range $name, $value := .Labels}}{{$name}} {{end}}";
    let done = Job::new("docker", ["network", "inspect", "--format", format, network])
        .limit(30)
        .outcome()?;
    Ok(done.stdout.split_whitespace().any(|label| label.starts_with(OWN_LABELS)))
}

/// What is already gone is no failure: an earlier removal may still have been under way.
fn remove(command: &[&str], what: &BTreeSet<String>) -> Result<()> {
    if what.is_empty() {
        return Ok(());
    }
    let what = what.iter().map(String::as_str);
    Job::new("docker", command.iter().copied().chain(what)).limit(120).outcome().map(drop)
}

/// The name to remove when `repository:tag@digest` came from a registry on this machine.
fn test_registry(image: &str) -> Option<String> {
    let (name, digest) = image.split_once('@')?;
    let is_local = ["127.0.0.1:", "localhost:"].iter().any(|host| name.starts_with(host));
    let repository = name.rsplit_once(':')?.0;
    match name.ends_with(":<none>") {
        _ if !is_local => None,
        true => Some(format!("{repository}@{digest}")),
        false => Some(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_from_a_registry_on_this_machine_are_leftovers() {
        let name = |image| test_registry(image);
        assert_eq!(name("127.0.0.1:5000/web:1@<none>"), Some("127.0.0.1:5000/web:1".into()));
        assert_eq!(
            name("127.0.0.1:5000/web:<none>@sha256:1"),
            Some("127.0.0.1:5000/web@sha256:1".into())
        );
        assert_eq!(name("deploykit/testbed:good@<none>"), None);
        assert_eq!(name("example.com/deploykit/testbed:good@sha256:1"), None);
    }
}
