//! Jobs: once, to their end, and gone when nobody needs them any more.

use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use deploykit_core::{
    ErrorKind, JobEnd, JobRun, JobState, Limits, Orchestrator, RevisionId, ServiceSpec,
};
use deploykit_docker::Docker;

use crate::world::{World, on_docker};

const LONG: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(100);

/// A run of a job, and what it runs: so many milliseconds, this exit code, these lines.
async fn job(world: &World, limit: Duration, arguments: &[&str]) -> (JobRun, RevisionId) {
    let command = ["job"].iter().chain(arguments).copied();
    job_of(world, limit, ServiceSpec::worker().with_command(command)).await
}

async fn job_of(world: &World, limit: Duration, spec: ServiceSpec) -> (JobRun, RevisionId) {
    let spec = spec.with_stop_grace(Duration::from_secs(1));
    let id = format!("{}-1-migrate-1", world.service);
    let run = JobRun::new(world.service.clone(), id, "migrate", "test-1", limit);
    (run, world.register("good", spec).await)
}

async fn end(docker: &Docker, run: &JobRun) -> JobEnd {
    match docker.await_job(run, LONG).await.unwrap() {
        JobState::Ended(end) => end,
        other => panic!("{other:?}"),
    }
}

async fn container(world: &World, run: &JobRun) -> ContainerInspectResponse {
    world.client.inspect_container(run.id.as_str(), None).await.unwrap()
}

async fn began(world: &World, run: &JobRun) -> (String, String) {
    let found = container(world, run).await;
    (found.id.unwrap(), found.state.unwrap().started_at.unwrap())
}

#[tokio::test]
async fn a_job_tells_its_exit_code_and_its_last_lines() {
    on_docker("job-end", async |world| {
        let lines: Vec<_> = (0..20).map(|line| format!("line {line}")).collect();
        let arguments: Vec<_> =
            ["10", "3"].into_iter().chain(lines.iter().map(String::as_str)).collect();
        let (run, revision) = job(&world, LONG, &arguments).await;
        world.docker.start_job(&run, &revision).await.unwrap();
        let end = end(&world.docker, &run).await;
        assert_eq!((end.exit_code, end.timed_out), (3, false));
        assert_eq!(end.log, lines[10..]);
    })
    .await;
}

#[tokio::test]
async fn a_job_is_no_task_and_is_removed_with_its_network_and_twice_is_as_well() {
    on_docker("job-gone", async |world| {
        let (run, revision) = job(&world, LONG, &["60000", "0"]).await;
        world.docker.start_job(&run, &revision).await.unwrap();
        assert!(world.docker.observe(&world.service).await.unwrap().places.is_empty());
        assert_eq!(world.docker.await_job(&run, SOON).await.unwrap(), JobState::Running);
        for _ in 0..2 {
            world.docker.remove_jobs(&world.service).await.unwrap();
        }
        assert!(world.client.inspect_container(run.id.as_str(), None).await.is_err());
        assert!(world.client.inspect_network(world.service.as_str(), None).await.is_err());
        assert_eq!(world.docker.await_job(&run, LONG).await.unwrap(), JobState::Absent);
    })
    .await;
}

#[tokio::test]
async fn a_job_that_runs_or_has_ended_is_adopted_by_whoever_starts_it_again() {
    on_docker("job-once", async |world| {
        let (run, revision) = job(&world, LONG, &["1500", "7", "done"]).await;
        world.docker.start_job(&run, &revision).await.unwrap();
        let first = began(&world, &run).await;
        // Another process knows the revision by registering it again.
        let newcomer = world.newcomer().await;
        assert_eq!(newcomer.await_job(&run, SOON).await.unwrap(), JobState::Running);
        newcomer.start_job(&run, &revision).await.unwrap();
        assert_eq!(end(&newcomer, &run).await, JobEnd::new(7).with_log(["done"]));
        newcomer.start_job(&run, &revision).await.unwrap();
        assert_eq!(end(&world.docker, &run).await.exit_code, 7);
        assert_eq!(began(&world, &run).await, first);
    })
    .await;
}

#[tokio::test]
async fn of_two_who_start_a_job_at_once_one_does() {
    on_docker("job-race", async |world| {
        let (run, revision) = job(&world, LONG, &["500", "0"]).await;
        let newcomer = world.newcomer().await;
        world.register("good", ServiceSpec::worker()).await;
        let release = world.docker.describe(&world.service, &revision).await.unwrap();
        newcomer.register(&world.service, &release).await.unwrap();
        let (one, other) = tokio::join!(
            world.docker.start_job(&run, &revision),
            newcomer.start_job(&run, &revision)
        );
        one.and(other).unwrap();
        let first = began(&world, &run).await;
        assert!(end(&newcomer, &run).await.is_success());
        assert_eq!(began(&world, &run).await, first);
    })
    .await;
}

#[tokio::test]
async fn a_container_that_was_made_and_never_started_is_started_by_the_next() {
    on_docker("job-made", async |world| {
        let (run, revision) = job(&world, LONG, &["10", "0"]).await;
        world.docker.start_job(&run, &revision).await.unwrap();
        assert!(end(&world.docker, &run).await.is_success());
        // What a deployer leaves that died between the two calls.
        let made = container(&world, &run).await;
        let config = made.config.unwrap();
        world.docker.remove_jobs(&world.service).await.unwrap();
        let body = bollard::models::ContainerCreateBody {
            image: config.image,
            cmd: config.cmd,
            labels: config.labels,
            ..Default::default()
        };
        let name = bollard::query_parameters::CreateContainerOptionsBuilder::new()
            .name(run.id.as_str())
            .build();
        world.client.create_container(Some(name), body).await.unwrap();
        assert_eq!(world.docker.await_job(&run, SOON).await.unwrap(), JobState::Absent);
        world.docker.start_job(&run, &revision).await.unwrap();
        assert!(end(&world.docker, &run).await.is_success());
    })
    .await;
}

#[tokio::test]
async fn a_job_that_runs_for_its_limit_is_stopped_by_whoever_looks_and_has_failed() {
    on_docker("job-limit", async |world| {
        let (run, revision) = job(&world, Duration::from_secs(1), &["60000", "0", "slow"]).await;
        world.docker.start_job(&run, &revision).await.unwrap();
        let newcomer = world.newcomer().await;
        let end = end(&newcomer, &run).await;
        assert!(end.timed_out && !end.is_success(), "{end:?}");
        assert_eq!(end.log, ["slow"]);
    })
    .await;
}

#[tokio::test]
async fn a_job_gets_its_secrets_by_reference_and_no_label_has_their_values() {
    on_docker("job-secret", async |world| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "hunter2-of-the-job\n").unwrap();
        let reference = format!("file:{}", file.display());
        let spec = ServiceSpec::worker()
            .with_command(["job", "10", "0"])
            .with_env("COLOUR", "red")
            .with_secret("PASSWORD", reference.as_str());
        let (run, revision) = job_of(&world, LONG, spec).await;
        world.docker.start_job(&run, &revision).await.unwrap();
        let config = container(&world, &run).await.config.unwrap();
        let env = config.env.unwrap();
        assert!(env.contains(&"PASSWORD=hunter2-of-the-job".to_owned()), "{env:?}");
        assert!(env.contains(&"COLOUR=red".to_owned()), "{env:?}");
        assert!(!config.labels.unwrap().values().any(|label| label.contains("hunter2")));
    })
    .await;
}

#[tokio::test]
async fn a_job_that_runs_out_of_memory_says_so() {
    on_docker("job-memory", async |world| {
        let spec = ServiceSpec::worker()
            .with_command(["job", "0", "0"])
            .with_env("EAT_MB", "256")
            .with_limits(Limits::new().with_memory_bytes(32 << 20));
        let (run, revision) = job_of(&world, LONG, spec).await;
        world.docker.start_job(&run, &revision).await.unwrap();
        let end = end(&world.docker, &run).await;
        assert!(end.out_of_memory, "{end:?}");
    })
    .await;
}

#[tokio::test]
async fn a_job_that_cannot_start_says_why_and_leaves_nothing() {
    on_docker("job-bad", async |world| {
        let spec = ServiceSpec::worker().with_command(["job", "0", "0"]).with_network("no-such");
        let (run, revision) = job_of(&world, LONG, spec).await;
        let error = world.docker.start_job(&run, &revision).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.message().contains("no-such"), "{error}");
        assert!(world.client.inspect_container(run.id.as_str(), None).await.is_err());
    })
    .await;
}
