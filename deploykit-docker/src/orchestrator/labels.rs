//! What is written on a container, so that any deployer knows it again.

use std::collections::HashMap;

use deploykit_core::{
    Error, ErrorKind, JobRun, Launch, Place, Release, Result, RevisionId, ServiceName,
};

pub(super) const SERVICE: &str = "deploykit.service";
pub(super) const PLACE: &str = "deploykit.place";
const REVISION: &str = "deploykit.revision";
const ROLLOUT: &str = "deploykit.rollout";
/// The release as JSON: secrets are references in it.
const RELEASE: &str = "deploykit.release";
/// The name that the task was made with: it stays the same task when somebody renames its container.
pub(super) const TASK: &str = "deploykit.task";
/// The id of a job; no task has it.
pub(super) const JOB: &str = "deploykit.job";
/// The network on which the task is reached.
const NETWORK: &str = "deploykit.task-network";

/// The labels of a task.
pub(super) fn of_task(
    launch: &Launch,
    release: &Release,
    network: &str,
) -> HashMap<String, String> {
    // Maps with text keys and plain values always become JSON.
    let json = serde_json::to_string(release).unwrap_or_default();
    let labels = [
        (SERVICE, launch.service.to_string()),
        (PLACE, launch.place.to_string()),
        (REVISION, launch.revision.to_string()),
        (ROLLOUT, launch.rollout.to_string()),
        (RELEASE, json),
        (NETWORK, network.to_owned()),
    ];
    labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The labels of a job.
pub(super) fn of_job(job: &JobRun, network: &str) -> HashMap<String, String> {
    let labels = [
        (SERVICE, job.service.to_string()),
        (JOB, job.id.to_string()),
        (ROLLOUT, job.rollout.to_string()),
        (NETWORK, network.to_owned()),
    ];
    labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The filter that finds the jobs of a service.
pub(super) fn jobs_filter(service: &ServiceName) -> Vec<String> {
    vec![format!("{SERVICE}={service}"), JOB.to_owned()]
}

/// The filter that finds the containers of a service, or of one place of it.
pub(super) fn filter(service: &ServiceName, place: Option<Place>) -> Vec<String> {
    let place = place.map(|place| format!("{PLACE}={place}"));
    std::iter::once(format!("{SERVICE}={service}")).chain(place).collect()
}

/// A container that these labels make a task, as far as the labels tell.
#[derive(Clone, Debug)]
pub(super) struct Tag {
    pub(super) place: Place,
    pub(super) revision: RevisionId,
    pub(super) network: String,
    release: String,
}

impl Tag {
    /// None where the labels are not those of a task.
    pub(super) fn read(labels: &HashMap<String, String>) -> Option<Self> {
        Some(Self {
            place: labels.get(PLACE)?.parse().ok()?,
            revision: RevisionId::new(labels.get(REVISION)?),
            network: labels.get(NETWORK)?.clone(),
            release: labels.get(RELEASE)?.clone(),
        })
    }

    /// The release; `container` is for the error.
    pub(super) fn release(&self, container: &str) -> Result<Release> {
        serde_json::from_str(&self.release).map_err(|error| {
            Error::new(
                ErrorKind::Corrupt,
                format!("label {RELEASE} of container {container} cannot be read"),
            )
            .with_hint("remove the container, or use the version of deploykit that made it")
            .with_source(error)
        })
    }
}
