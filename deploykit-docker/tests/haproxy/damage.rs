//! What was broken off, cut short or mended by hand, and what others could see or take.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::time::Duration;

use deploykit_core::{
    Endpoint, ErrorKind, LoadBalancer, Place, Routing, ServiceName, TargetHealth, TaskId,
};
use deploykit_docker::{Frontend, HaProxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::world::{TEST, World, builder, get, on_haproxy};

#[tokio::test]
async fn a_target_whose_deployer_died_while_adding_it_is_checked_before_it_gets_requests() {
    on_haproxy("halfadded", |world| async move {
        let task = world.task("A", "good").await;
        let nobody = Endpoint { task: TaskId::new("nobody"), address: "192.0.2.1:80".into() };
        for target in [&task, &nobody] {
            let add = format!("add server web.A/{} {} weight 0", target.task, target.address);
            let added = world.whisper(&format!("{add} check inter 500ms rise 1 fall 2")).await;
            assert!(added.contains("New server registered"), "{added}");
        }
        let targets = [task, nobody.clone()];
        world.haproxy.add_targets(&world.service, Place::A, &targets).await.unwrap();
        let state = world
            .until("checked", |state| {
                let known = |health| state.targets.iter().any(|target| target.health == health);
                known(TargetHealth::Healthy) && known(TargetHealth::Unhealthy)
            })
            .await;
        let of_nobody = state.targets.iter().find(|target| target.task == nobody.task).unwrap();
        assert_eq!(of_nobody.health, TargetHealth::Unhealthy, "{state:#?}");
    })
    .await;
}

/// A master's socket in front of HAProxy's own; of each answer to a command that has `to` in it half is lost.
async fn halving(world: &World, to: &'static str) -> PathBuf {
    let (near, far) = (world.state.join("half.sock"), world.state.join("run/master.sock"));
    let listener = UnixListener::bind(&near).unwrap();
    tokio::spawn(async move {
        while let Ok((mut asked, _)) = listener.accept().await {
            let mut command = String::new();
            asked.read_to_string(&mut command).await.unwrap();
            let mut haproxy = UnixStream::connect(&far).await.unwrap();
            haproxy.write_all(command.as_bytes()).await.unwrap();
            haproxy.shutdown().await.unwrap();
            let mut answer = Vec::new();
            haproxy.read_to_end(&mut answer).await.unwrap();
            if command.contains(to) {
                answer.truncate(answer.len() / 2);
            }
            asked.write_all(&answer).await.ok();
        }
    });
    near
}

#[tokio::test]
async fn an_answer_of_which_half_is_missing_is_an_error_and_hides_no_target() {
    on_haproxy("half", |world| async move {
        world.live(Place::A, 2).await;
        for command in ["show stat", "get var proc.web.route"] {
            let socket = halving(&world, command).await;
            let file = world.state.join("conf/haproxy.cfg");
            let attached = HaProxy::attach(&socket, file).await;
            let seen = match attached {
                Ok(other) => other.observe(&world.service).await.map(drop),
                Err(error) => Err(error),
            };
            let error = seen.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{command}: {error}");
            assert!(error.message().contains("cannot be read"), "{error}");
            std::fs::remove_file(socket).unwrap();
        }
        assert_eq!(world.observe().await.healthy(Place::A), 2);
    })
    .await;
}

#[tokio::test]
async fn nobody_else_reads_the_configuration_or_can_keep_its_lock() {
    on_haproxy("private", |world| async move {
        let mode = std::fs::metadata(world.state.join("conf")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    })
    .await;
}

#[tokio::test]
async fn haproxy_runs_as_the_owner_of_its_directory_though_another_starts_it() {
    let state = tempfile::tempdir().unwrap();
    let somebody = 4_711;
    if chown(state.path(), Some(somebody), Some(somebody)).is_err() {
        // Only root can give a directory away, and only then is this to be seen.
        return;
    }
    let name = format!("dkh-owner-{}", std::process::id());
    let haproxy = builder(&name, state.path()).start().await.unwrap();
    let socket = std::fs::metadata(state.path().join("run/master.sock"));
    haproxy.remove().await.unwrap();
    assert_eq!(socket.unwrap().uid(), somebody);
}

#[tokio::test]
async fn nothing_is_left_of_a_haproxy_that_refuses_its_configuration() {
    let state = tempfile::tempdir().unwrap();
    let name = format!("dkh-leftover-{}", std::process::id());
    let bad = builder(&name, state.path()).extra_config("frontend mine\n  nonsense here\n");
    assert_eq!(bad.start().await.unwrap_err().kind(), ErrorKind::Invalid);
    let client = bollard::Docker::connect_with_defaults().unwrap();
    let left = client.inspect_container(&format!("deploykit-haproxy-{name}"), None).await;
    assert!(left.is_err(), "{left:?}");
    assert!(client.inspect_network(&name, None).await.is_err());
}

#[tokio::test]
async fn a_second_haproxy_on_the_directory_of_another_is_refused() {
    on_haproxy("shareddir", |world| async move {
        let name = format!("dkh-shareddir2-{}", std::process::id());
        let error = builder(&name, &world.state).start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.message().contains(&world.container()), "{error}");
        world.haproxy.set_routing(&world.service, &Routing::Pooled).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_the_engine_cannot_mount_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("a:b");
    let error = builder("colon", &dir).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("a:b") && !dir.exists(), "{error}");
}

#[tokio::test]
async fn a_configuration_file_that_somebody_removed_is_missed_and_no_service_is_forgotten() {
    on_haproxy("nofile", |world| async move {
        world.serve(Place::A, 1).await;
        world.route(&Routing::all_to(Place::A)).await;
        let url = world.observe().await.entry.unwrap().url;
        let file = world.state.join("conf/haproxy.cfg");
        let text = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let other = ServiceName::new("other").unwrap();
        let added = world.haproxy.add_service(&other, &Frontend::new(TEST)).await;
        let seen = world.haproxy.observe(&world.service).await;
        for error in [added.unwrap_err(), seen.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.message().contains(file.to_str().unwrap()), "{error}");
        }
        assert_eq!(get(&url, "").await.status, 200);
        std::fs::write(&file, text).unwrap();
        world.haproxy.add_service(&other, &Frontend::new(TEST)).await.unwrap();
        assert_eq!(world.get("").await.status, 200);
    })
    .await;
}

/// What a deployer gives a call; whoever takes longer is not asked why.
const CALL: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_lock_that_another_process_keeps_is_named_before_the_call_is_given_up() {
    on_haproxy("locked", |world| async move {
        let path = world.state.join("conf/haproxy.cfg.lock");
        let lock = std::fs::File::open(&path).unwrap();
        lock.lock().unwrap();
        let change = world.haproxy.set_routing(&world.service, &Routing::Pooled);
        let error = tokio::time::timeout(CALL, change).await.expect("an answer").unwrap_err();
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Busy, true));
        assert!(error.message().contains(path.to_str().unwrap()), "{error}");
        drop(lock);
        world.route(&Routing::Pooled).await;
    })
    .await;
}
