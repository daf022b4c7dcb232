//! Jobs: containers that run once.

use std::time::Duration;

use bollard::models::ContainerSummary;
use deploykit_core::{Error, ErrorKind, JobEnd, JobRun, JobState, Result, RevisionId, ServiceName};
use futures::{StreamExt, stream};
use tokio::time::Instant;

use super::container::Blueprint;
use super::launch::{BETWEEN_LOOKS, LOOKS};
use super::observe::{shorten, uptime};
use super::{AT_ONCE, Docker, labels, secret};
use crate::engine::{Failure, Inspected};
use crate::registry::ensure_image;

/// How many of its last log lines the end of a job has.
const LOG_LINES: usize = 10;

/// How long nothing is looked at when the Engine tells of no change.
const QUIET: Duration = Duration::from_secs(2);

impl Docker {
    /// The name of a container is taken by one call only, and what was started is never started again: its container is kept.
    /// One that was made and not started, by a call that broke off, is removed without force and made anew, so that a start
    /// still under way finds either nothing or what runs already.
    pub(super) async fn start_once(&self, job: &JobRun, revision: &RevisionId) -> Result<()> {
        let JobRun { service, id, .. } = job;
        let engine = &self.inner.engine;
        let doing = format!("start job {id}");
        let failed = |failure| self.failed(&doing, failure);
        for _ in 0..LOOKS {
            match self.find_job(job).await? {
                Some(found) if found.was_started() => return Ok(()),
                Some(found) => {
                    engine.remove_idle(&found.id).await.map_err(failed)?;
                    continue;
                }
                None => {}
            }
            let release = self.release(service, revision).await?;
            ensure_image(engine, &release.image).await?;
            let network = engine.ensure_network(&self.network).await?;
            let labels = labels::of_job(job, &network.name);
            let secrets = secret::fetch_all(&release).await?;
            let network = network.name;
            let blueprint = Blueprint { labels, network, release, secrets, restarts: false };
            let made = match engine.create(id.as_str(), &blueprint.request(None)).await {
                Ok(made) => made,
                // A name is taken before its container can be seen.
                Err(failure) if failure.is(409) => {
                    tokio::time::sleep(BETWEEN_LOOKS).await;
                    continue;
                }
                Err(failure) => return Err(self.explain(failed(failure))),
            };
            match self.join_and_start(&blueprint, &made).await {
                Ok(()) => {
                    tracing::debug!(%service, job = %id, "started");
                    return Ok(());
                }
                // The network went with the last container of another service, or the container was made anew elsewhere.
                Err(failure)
                    if failure.says(&format!("network {} not found", blueprint.network))
                        || failure.says("no such container")
                        || failure.says("marked for removal") => {}
                Err(failure @ Failure::Answer { .. }) => {
                    engine.remove_idle(&made).await.map_err(failed)?;
                    return Err(self.explain(failed(failure)));
                }
                // It may have been started all the same: the next call tells.
                Err(failure) => return Err(failed(failure)),
            }
        }
        Err(Error::new(ErrorKind::Busy, format!("{doing}: it cannot be made in {LOOKS} tries"))
            .with_hint(format!("look what takes the name of container {id}"))
            .with_temporary(true))
    }

    pub(super) async fn end_of(&self, job: &JobRun, at_most: Duration) -> Result<JobState> {
        let JobRun { service, id, limit, .. } = job;
        let engine = &self.inner.engine;
        let until = Instant::now().checked_add(at_most);
        loop {
            self.inner.changes.about_to_observe(engine, service.as_str());
            let Some(found) = self.find_job(job).await?.filter(Inspected::was_started) else {
                return Ok(JobState::Absent);
            };
            let Some(ran) = found.ran() else {
                let ran = uptime(&found.state.started_at);
                let left = until.map_or(QUIET, |until| until.duration_since(Instant::now()));
                if ran >= *limit {
                    let stopped = engine.stop(&found.id).await;
                    stopped.map_err(|f| self.failed(&format!("stop job {id}"), f))?;
                } else if left.is_zero() {
                    return Ok(JobState::Running);
                } else {
                    let wait = left.min(limit.saturating_sub(ran)).min(QUIET);
                    self.inner.changes.wait(engine, service.as_str(), wait).await;
                }
                continue;
            };
            return Ok(JobState::Ended(self.job_end(&found, ran >= *limit).await));
        }
    }

    async fn job_end(&self, found: &Inspected, timed_out: bool) -> JobEnd {
        let noticed = self.inner.changes.death(&found.id);
        let out_of_memory =
            found.state.oom_killed || noticed.is_some_and(|death| death.out_of_memory);
        // Some log drivers cannot be read back; the end is worth telling without the lines.
        let lines = self.inner.engine.log_tail(&found.id, LOG_LINES).await.unwrap_or_default();
        JobEnd::new(found.state.exit_code)
            .with_timed_out(timed_out)
            .with_out_of_memory(out_of_memory)
            .with_log(lines.iter().map(|line| shorten(line)))
    }

    async fn find_job(&self, job: &JobRun) -> Result<Option<Inspected>> {
        let JobRun { service, id, .. } = job;
        let found = self.inner.engine.inspect(id.as_str()).await;
        let found = found.map_err(|f| self.failed(&format!("look at job {id}"), f))?;
        match found {
            Some(found)
                if found.label(labels::JOB) != Some(id.as_str())
                    || found.label(labels::SERVICE) != Some(service.as_str()) =>
            {
                Err(Error::new(
                    ErrorKind::Busy,
                    format!("job {id} of {service}: a container that is none of it has its name"),
                )
                .with_hint(format!("remove or rename container {id}")))
            }
            found => Ok(found),
        }
    }

    pub(super) async fn remove_all_jobs(&self, service: &ServiceName) -> Result<()> {
        let engine = &self.inner.engine;
        let found = engine.list(&labels::jobs_filter(service)).await;
        let found = found.map_err(|f| self.failed(&format!("list the jobs of {service}"), f))?;
        // What is run from an image that somebody made of a job's container has its labels too.
        let is_job = |job: &ContainerSummary| {
            let id = job.labels.as_ref().and_then(|labels| labels.get(labels::JOB));
            let names = job.names.iter().flatten();
            id.is_some_and(|id| {
                names.map(|name| name.trim_start_matches('/')).any(|name| name == id)
            })
        };
        let jobs = found.into_iter().filter(is_job).filter_map(|job| job.id);
        let removals = jobs.map(|id| async move {
            let gone = async {
                engine.stop(&id).await?;
                engine.remove(&id).await
            };
            gone.await.map_err(|f| self.failed(&format!("remove job container {id}"), f))
        });
        let done: Vec<Result<()>> =
            stream::iter(removals).buffer_unordered(AT_ONCE).collect().await;
        done.into_iter().collect::<Result<()>>()?;
        let removed = engine.remove_unused_network(&self.network).await;
        removed.map_err(|f| self.failed(&format!("remove network {}", self.network), f))
    }
}
