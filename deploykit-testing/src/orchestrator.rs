//! The orchestrator of the world.

use std::time::Duration;

use async_trait::async_trait;
use deploykit_core::{
    Error, ErrorKind, JobRun, JobState, Launch, Orchestrator, OrchestratorCapability, Place,
    PlaceState, Release, Result, RevisionId, ServiceName, ServiceState, Task, TaskId, TaskState,
};

use crate::calls::Operation;
use crate::state::{At, Run, State};
use crate::world::World;

/// The orchestrator of a [`World`]. It restarts tasks that die, as Docker's restart policy does.
#[derive(Clone, Debug)]
pub struct WorldOrchestrator {
    world: World,
}

impl WorldOrchestrator {
    pub(crate) const fn new(world: World) -> Self {
        Self { world }
    }
}

#[async_trait]
impl Orchestrator for WorldOrchestrator {
    fn capability(&self) -> OrchestratorCapability {
        let settings = self.world.lock().settings.clone();
        settings.orchestrator.with_stale(settings.stale_reads)
    }

    async fn observe(&self, service: &ServiceName) -> Result<ServiceState> {
        let observe = |state: &mut State| Ok(state.observe_tasks(service));
        self.world.call(Operation::ObserveTasks, Some(service), String::new, observe).await
    }

    async fn register(&self, service: &ServiceName, release: &Release) -> Result<RevisionId> {
        let register = |state: &mut State| state.register(service, release);
        let what = || release.image.to_string();
        self.world.call(Operation::Register, Some(service), what, register).await
    }

    async fn describe(&self, service: &ServiceName, revision: &RevisionId) -> Result<Release> {
        let describe = |state: &mut State| {
            let (_, known) = state.service(service.as_str())?;
            let release = known.revisions.get(revision);
            release.cloned().ok_or_else(|| unknown(service, revision))
        };
        self.world.call(Operation::Describe, Some(service), String::new, describe).await
    }

    async fn launch(&self, launch: &Launch) -> Result<()> {
        let Launch { service, place, revision, count, rollout } = launch;
        let what = || format!("{count} of {revision} in {place} for {rollout}");
        let act = |state: &mut State| state.launch(service, *place, revision, *count);
        self.world.call(Operation::Launch, Some(service), what, act).await
    }

    async fn stop(&self, service: &ServiceName, place: Place, tasks: &[TaskId]) -> Result<()> {
        let what = || format!("{} in {place}", list(tasks));
        let stop = |state: &mut State| Ok(state.stop(service, place, |task| tasks.contains(task)));
        let gone = self.world.call(Operation::Stop, Some(service), what, stop).await?;
        self.world.until(gone).await;
        Ok(())
    }

    async fn retire(&self, service: &ServiceName, place: Place) -> Result<()> {
        let what = || place.to_string();
        let retire = |state: &mut State| Ok(state.stop(service, place, |_| true));
        let gone = self.world.call(Operation::Retire, Some(service), what, retire).await?;
        self.world.until(gone).await;
        Ok(())
    }

    async fn start_job(&self, job: &JobRun, revision: &RevisionId) -> Result<()> {
        let what = || job.id.to_string();
        let start = |state: &mut State| state.start_job(job, revision);
        self.world.call(Operation::StartJob, Some(&job.service), what, start).await
    }

    async fn await_job(&self, job: &JobRun, at_most: Duration) -> Result<JobState> {
        let news = |state: &mut State| state.job_news(job, state.now.saturating_add(at_most));
        let news =
            self.world.call(Operation::AwaitJob, Some(&job.service), String::new, news).await?;
        self.world.until(news).await;
        Ok(self.world.lock().look_at_job(job))
    }

    async fn remove_jobs(&self, service: &ServiceName) -> Result<()> {
        let remove = |state: &mut State| {
            state.remove_jobs(service);
            Ok(())
        };
        self.world.call(Operation::RemoveJobs, Some(service), String::new, remove).await
    }

    async fn changed(&self, service: &ServiceName, at_most: Duration) {
        self.world.changed(service, at_most).await;
    }
}

impl State {
    /// What there is now.
    pub(crate) fn tasks_now(&self, service: &ServiceName) -> ServiceState {
        let Ok((_, service)) = self.service(service.as_str()) else {
            return ServiceState::default();
        };
        let place = |(place, run): (&Place, &Run)| PlaceState {
            place: *place,
            revision: run.revision.clone(),
            desired: run.desired,
            tasks: service
                .tasks_of(*place)
                .map(|(_, task)| Task {
                    id: task.id.clone(),
                    state: task.state.clone(),
                    address: task.address.clone(),
                })
                .collect(),
        };
        ServiceState { places: service.runs.iter().map(place).collect() }
    }

    pub(crate) fn register(
        &mut self,
        service: &ServiceName,
        release: &Release,
    ) -> Result<RevisionId> {
        release.spec.check()?;
        if !release.sidecars.is_empty() && !self.settings.orchestrator.sidecars {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "release: sidecars are more than this orchestrator can run in a task",
            )
            .with_hint("run them as services of their own"));
        }
        let images = std::iter::once(&release.image).chain(release.sidecars.values());
        for image in images {
            if !self.behaviours.contains_key(&image.digest) {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "release: image {image} cannot be pulled, no registry of this world has it"
                    ),
                )
                .with_hint("put it there with World::image"));
            }
        }
        let number = self.find_or_add(service);
        let revision = RevisionId::new(format!("{service}@{}", release.digest().short()));
        if let Some(service) = self.services.get_mut(number)
            && !service.revisions.contains_key(&revision)
        {
            service.revisions.insert(revision.clone(), release.clone());
            self.version += 1;
        }
        Ok(revision)
    }

    pub(crate) fn launch(
        &mut self,
        service: &ServiceName,
        place: Place,
        revision: &RevisionId,
        count: u32,
    ) -> Result<()> {
        if count == 0 {
            return Err(Error::invalid(format!("launch in place {place}: count is 0"))
                .with_hint("launch at least 1 task, or retire the place"));
        }
        let places = self.settings.orchestrator.places;
        let number = self.find_or_add(service);
        let behaviours = &self.behaviours;
        let Some(known) = self.services.get_mut(number) else {
            return Ok(());
        };
        let Some(release) = known.revisions.get(revision) else {
            return Err(unknown(service, revision));
        };
        if let Some(run) = known.runs.get(&place).filter(|run| run.revision != *revision) {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("place {place} of service {service} runs {}", run.revision),
            )
            .with_hint("retire it first"));
        }
        if !known.runs.contains_key(&place) && known.runs.len() >= places {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("service {service} has {places} places already, all that there can be"),
            )
            .with_hint("retire one first"));
        }
        let behaviour = behaviours
            .get(&release.image.digest)
            .copied()
            .ok_or_else(|| unknown(service, revision))?;
        let run = known.runs.entry(place).or_insert_with(|| Run {
            revision: revision.clone(),
            behaviour,
            stop_grace: release.spec.stop_grace,
            port: release.spec.port,
            desired: 0,
        });
        if run.desired < count {
            run.desired = count;
            self.version += 1;
        }
        let staying = known
            .tasks_of(place)
            .filter(|(_, task)| task.state != TaskState::Stopping && !task.leaving)
            .count();
        let missing = count.saturating_sub(u32::try_from(staying).unwrap_or(u32::MAX));
        self.start_tasks(number, place, missing);
        Ok(())
    }

    /// Stops those tasks of a place that are meant, and says when they will be gone.
    fn stop(
        &mut self,
        service: &ServiceName,
        place: Place,
        is_meant: impl Fn(&TaskId) -> bool,
    ) -> At {
        let Some(number) = self.find(service.as_str()) else {
            return self.now;
        };
        let mut all_gone = self.now;
        for task in self.task_numbers(number, place) {
            let Some(found) = self.task(number, task).filter(|task| is_meant(&task.id)) else {
                continue;
            };
            if found.gone_at.is_none() {
                self.check_drained(number, task, "stopped");
                let run = self.services.get_mut(number).and_then(|s| s.runs.get_mut(&place));
                if let Some(run) = run {
                    run.desired = run.desired.saturating_sub(1);
                }
            }
            if let Some(gone) = self.end(number, task) {
                all_gone = all_gone.max(gone);
            }
        }
        all_gone
    }
}

pub(crate) fn unknown(service: &ServiceName, revision: &RevisionId) -> Error {
    Error::new(ErrorKind::NotFound, format!("service {service} has no revision {revision}"))
        .with_hint("register its release first")
}

pub(crate) fn list(tasks: &[TaskId]) -> String {
    match tasks {
        [] => "nothing".to_owned(),
        tasks => {
            let ids: Vec<_> = tasks.iter().map(TaskId::as_str).collect();
            ids.join(", ")
        }
    }
}
