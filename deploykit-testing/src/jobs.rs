//! Jobs of the world: what they do is foreseen when they start.

use std::collections::BTreeMap;
use std::time::Duration;

use deploykit_core::{
    Error, ErrorKind, JobEnd, JobId, JobName, JobRun, JobState, Result, RevisionId, ServiceName,
};

use crate::behaviour::Behaviour;
use crate::orchestrator::unknown;
use crate::state::{At, State};
use crate::world::World;

/// What shells and the Engine tell of a process that SIGTERM has ended.
const TERMINATED: i64 = 143;

/// The jobs of a service.
#[derive(Default)]
pub(crate) struct Jobs {
    /// Those that were not removed.
    known: BTreeMap<JobId, Job>,
    /// How often a job of a name was started, ever.
    started: BTreeMap<JobName, u64>,
}

struct Job {
    behaviour: Behaviour,
    began: At,
    /// When it was stopped, if it was.
    stopped: Option<At>,
}

impl Job {
    /// When it ends; none if it never does by itself.
    fn ends(&self) -> Option<At> {
        let time = self.behaviour.job_time.map(|time| self.began.saturating_add(time));
        self.stopped.or(time)
    }

    fn state(&self, limit: Duration, now: At) -> JobState {
        let Some(ended) = self.ends().filter(|ended| *ended <= now) else {
            return JobState::Running;
        };
        let code = if self.stopped.is_some() { TERMINATED } else { self.behaviour.job_code };
        let log = Some(self.behaviour.job_says).filter(|line| !line.is_empty());
        let timed_out = ended.saturating_sub(self.began) >= limit;
        JobState::Ended(JobEnd::new(code).with_timed_out(timed_out).with_log(log))
    }
}

impl State {
    pub(crate) fn start_job(&mut self, run: &JobRun, revision: &RevisionId) -> Result<()> {
        self.can_run(run)?;
        let number = self.find_or_add(&run.service);
        let (now, behaviours) = (self.now, &self.behaviours);
        let Some(service) = self.services.get_mut(number) else { return Ok(()) };
        if service.jobs.known.contains_key(&run.id) {
            return Ok(());
        }
        let release = service.revisions.get(revision);
        let behaviour = release.and_then(|release| behaviours.get(&release.image.digest)).copied();
        let behaviour = behaviour.ok_or_else(|| unknown(&run.service, revision))?;
        service.jobs.known.insert(run.id.clone(), Job { behaviour, began: now, stopped: None });
        *service.jobs.started.entry(run.name.clone()).or_default() += 1;
        self.version += 1;
        Ok(())
    }

    /// When a look at a job can show its end: when it ends, or has run for its limit, or at the latest time that is asked for.
    pub(crate) fn job_news(&self, run: &JobRun, latest: At) -> Result<At> {
        self.can_run(run)?;
        let job = self.jobs(&run.service).and_then(|jobs| jobs.known.get(&run.id));
        Ok(job.map_or(self.now, |job| {
            let limit = job.began.saturating_add(run.limit);
            job.ends().map_or(limit, |ends| ends.min(limit)).min(latest)
        }))
    }

    fn can_run(&self, run: &JobRun) -> Result<()> {
        if self.settings.orchestrator.jobs {
            return Ok(());
        }
        let message = format!("job {}: the orchestrator runs no jobs", run.name);
        Err(Error::new(ErrorKind::Unsupported, message)
            .with_hint("its capability says so; see Settings::orchestrator"))
    }

    /// How a job fares; one that has run for its limit is stopped.
    pub(crate) fn look_at_job(&mut self, run: &JobRun) -> JobState {
        let now = self.now;
        let Some(job) = self
            .find(run.service.as_str())
            .and_then(|number| self.services.get_mut(number)?.jobs.known.get_mut(&run.id))
        else {
            return JobState::Absent;
        };
        let is_over = job.began.saturating_add(run.limit) <= now;
        if is_over && job.state(run.limit, now) == JobState::Running {
            job.stopped = Some(now);
            self.version += 1;
        }
        job.state(run.limit, now)
    }

    pub(crate) fn remove_jobs(&mut self, service: &ServiceName) {
        let jobs = self.find(service.as_str()).and_then(|number| self.services.get_mut(number));
        if let Some(service) = jobs.filter(|service| !service.jobs.known.is_empty()) {
            service.jobs.known.clear();
            self.version += 1;
        }
    }

    fn jobs(&self, service: &ServiceName) -> Option<&Jobs> {
        Some(&self.services.get(self.find(service.as_str())?)?.jobs)
    }
}

impl Jobs {
    /// How many have not been removed.
    pub(crate) fn left(&self) -> usize {
        self.known.len()
    }
}

impl World {
    /// How often a job of this name was really started for a service, in all rollouts.
    pub fn job_starts(&self, service: &ServiceName, job: &str) -> u64 {
        let state = self.lock();
        let jobs = state.jobs(service);
        jobs.and_then(|jobs| jobs.started.get(&JobName::new(job))).copied().unwrap_or_default()
    }
}
