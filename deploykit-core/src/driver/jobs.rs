//! Jobs: started at most once, looked up whenever it is not known what became of them.

use std::time::Duration;

use tokio::time::sleep;

use super::perform::{Answer, INSIST, Performer};
use super::update::UpdateKind;
use crate::error::{Error, ErrorKind, Result};
use crate::machine::JobCall;
use crate::name::ServiceName;
use crate::provider::{JobRun, JobState};

/// How long one call waits for the end of a job.
const WATCH: Duration = Duration::from_secs(10);
/// Between two such calls.
const PAUSE: Duration = Duration::from_millis(50);

impl Performer {
    pub(super) async fn start_job(&self, job: JobCall) -> Result<Answer> {
        let JobCall { run, release, .. } = &job;
        let revision = self.revision_for(release).await?;
        let orchestrator = &self.providers.orchestrator;
        let start = || orchestrator.quick("start", orchestrator.start_job(run, &revision));
        match self.insist(INSIST, start).await {
            Ok(()) => Ok(Answer::Done(None)),
            // One of the calls may have got through though none was answered.
            Err(error) => match self.job_state(run, Duration::ZERO).await {
                Ok(JobState::Running | JobState::Ended(_)) => Ok(Answer::Done(None)),
                Ok(JobState::Absent) => Err(error),
                Err(_) => Err(uncertain(run, "it cannot be told whether it was started", error)),
            },
        }
        .map_err(|e| at(&job, e))
    }

    /// Waits for the end of a job. One that was never started, as far as is known, is over.
    pub(super) async fn await_job(&self, job: JobCall) -> Result<Answer> {
        let run = &job.run;
        // The orchestrator counts from the real start, and needs the grace period after that.
        let latest = job.until.plus(self.stop_grace).plus(INSIST);
        let state = loop {
            match self.job_state(run, WATCH).await {
                Ok(JobState::Running) if self.now() < latest => sleep(PAUSE).await,
                other => break other,
            }
        };
        let error = match state {
            Ok(JobState::Ended(end)) => {
                self.show(UpdateKind::Job { job: run.name.clone(), end: end.clone() });
                if end.is_success() {
                    return Ok(Answer::Done(None));
                }
                let failed = Error::new(ErrorKind::Unhealthy, end.to_string());
                if end.timed_out {
                    failed.with_hint("if it only needs longer, give it more time")
                } else {
                    failed
                }
            }
            Ok(JobState::Absent) if !job.started => return Ok(Answer::Done(None)),
            Ok(JobState::Absent) => {
                uncertain(run, "it was started and cannot be found any more", None)
            }
            Ok(JobState::Running) => uncertain(run, "it still runs though its time is over", None),
            Err(error) => uncertain(run, "it was started and cannot be asked for", error),
        };
        Err(at(&job, error))
    }

    async fn job_state(&self, run: &JobRun, at_most: Duration) -> Result<JobState> {
        let orchestrator = &self.providers.orchestrator;
        // It may have to be stopped, and reading its log takes a call too.
        let limit = at_most.saturating_add(self.stop_grace).saturating_add(INSIST / 4);
        let look =
            || orchestrator.bounded("look at the job", limit, orchestrator.await_job(run, at_most));
        self.insist(INSIST.max(limit.saturating_mul(2)), look).await
    }

    /// Removes what the jobs of a service left.
    pub(crate) async fn remove_jobs(&self, service: &ServiceName) -> Result<()> {
        let orchestrator = &self.providers.orchestrator;
        let limit = self.stop_grace.saturating_add(INSIST / 4);
        let remove =
            || orchestrator.bounded("remove the jobs", limit, orchestrator.remove_jobs(service));
        self.insist(INSIST.max(limit.saturating_mul(2)), remove).await
    }
}

fn at(job: &JobCall, error: Error) -> Error {
    error.within(format_args!("{} at {}", job.run.name, job.point))
}

fn uncertain(run: &JobRun, why: &str, source: impl Into<Option<Error>>) -> Error {
    let error = Error::new(ErrorKind::Uncertain, why).with_hint(format!(
        "look for job {} at the orchestrator, and whether what it does is done; recover removes what is left of it",
        run.id
    ));
    match source.into() {
        Some(source) => error.with_source(source),
        None => error,
    }
}
