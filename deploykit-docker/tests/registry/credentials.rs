//! Whose credentials are presented, and whom a refusal names.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use deploykit_core::{Error, ErrorKind, ImageRef, PinnedImage, Registry, Result};
use deploykit_docker::{DockerRegistry, Engine, Logins, OciRegistry};
use serde_json::json;

use crate::world::{PULLER, PUSHER, Stand, World};

pub(crate) fn write_config(directory: &Path, config: &serde_json::Value) {
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
}

/// As `docker login` writes it.
fn config(registry: &str, user: &str, password: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    write_config(directory.path(), &json!({ "auths": { registry: { "auth": auth } } }));
    directory
}

async fn published(world: &World, logins: Logins) -> Result<PinnedImage> {
    let (publish, _) = world.publish(&["1"]);
    world.directly().with_logins(logins).publish(&publish).await
}

fn assert_denied(error: &Error, part: &str) {
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", error.report());
    assert!(error.message().contains(part), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("docker login")), "{error}");
}

#[tokio::test]
async fn a_password_that_was_given_opens_the_registry_and_a_wrong_one_is_said_to_be_from_the_code()
{
    Stand::new("given")
        .guarded()
        .run(async |world| {
            let error = published(&world, world.login(PUSHER.0, "wrong-word")).await.unwrap_err();
            assert_denied(&error, "the credentials given in code for user \"pusher\"");
            assert!(!error.report().contains("wrong-word"), "{}", error.report());

            let none = Logins::new().without_docker_config();
            assert_denied(&published(&world, none).await.unwrap_err(), "without credentials");

            let requests = world.requests().await;
            assert!(!requests.iter().any(|line| line.contains(" 201 ")), "{requests:?}");
            published(&world, world.login(PUSHER.0, PUSHER.1)).await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn what_docker_login_left_is_found_by_the_registry_the_engine_and_the_orchestrator() {
    Stand::new("left")
        .guarded()
        .seeded()
        .run(async |world| {
            let left = config(&world.registry, PULLER.0, PULLER.1);
            let logins = Logins::new().with_docker_config(left.path());
            let image = world.image("team/web:1");
            let directly = OciRegistry::new().with_logins(logins.clone());
            let pinned = directly.resolve(&image).await.unwrap();
            let engine = world.engine.clone().with_logins(logins);
            let by_engine = DockerRegistry::new(engine.clone()).resolve(&image).await.unwrap();
            assert_eq!(by_engine, pinned);
            world.pull(&engine, pinned).await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn what_docker_login_left_and_the_registry_refuses_is_named_by_its_file() {
    Stand::new("stale")
        .guarded()
        .run(async |world| {
            let left = config(&world.registry, "me", "wrong-word");
            let logins = Logins::new().with_docker_config(left.path());
            let file = left.path().join("config.json").display().to_string();
            let image = world.image("team/web:1");
            let engine = world.engine.clone().with_logins(logins.clone());
            for error in [
                published(&world, logins.clone()).await.unwrap_err(),
                DockerRegistry::new(engine).resolve(&image).await.unwrap_err(),
            ] {
                assert_denied(&error, &format!("the credentials in {file} for user \"me\""));
                assert!(!error.report().contains("wrong-word"), "{}", error.report());
            }
            // What is given in code counts first.
            let given = logins.with_password(&world.registry, PUSHER.0, PUSHER.1);
            published(&world, given).await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn credentials_for_another_registry_stay_at_home() {
    Stand::new("home")
        .guarded()
        .run(async |world| {
            let left = config("registry.example.org", PUSHER.0, PUSHER.1);
            let logins = Logins::new().with_docker_config(left.path());
            let error = published(&world, logins).await.unwrap_err();
            assert_denied(&error, "a request without credentials");
            assert!(error.message().contains("config.json has none for it"), "{error}");
        })
        .await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_and_not_quoted() {
    let directory = tempfile::tempdir().unwrap();
    write_config(directory.path(), &json!({ "auths": { "r.example.org": "hush" } }));
    let logins = Logins::new().with_docker_config(directory.path());
    let image = ImageRef::parse("r.example.org/web:1").unwrap();
    let error = OciRegistry::new().with_logins(logins).resolve(&image).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("config.json"), "{error}");
    assert!(!error.report().contains("hush"), "{}", error.report());
}

/// Runs `child` in a process of its own, whose PATH has a helper that is this script, and whose configuration names it for
/// the registry.
async fn with_helper(world: &World, script: &str) -> String {
    let config = json!({ "credHelpers": { &world.registry: "test" } });
    with_config(world, script, &config).await
}

async fn with_config(world: &World, script: &str, config: &serde_json::Value) -> String {
    let directory = tempfile::tempdir().unwrap();
    let helper = directory.path().join("docker-credential-test");
    std::fs::write(&helper, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    write_config(directory.path(), config);
    let path = std::env::var("PATH").unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "credentials::child", "--ignored", "--nocapture"])
        .env("PATH", format!("{}:{path}", directory.path().display()))
        .env("DOCKER_CONFIG", directory.path())
        .env("IMAGE", world.image("team/web:1").to_string());
    let done = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test]
#[ignore = "other tests run it, with a helper in PATH"]
#[expect(clippy::print_stdout, reason = "those tests read it")]
async fn child() {
    let image = ImageRef::parse(&std::env::var("IMAGE").unwrap()).unwrap();
    let directly = OciRegistry::new().resolve(&image).await;
    let by_engine = DockerRegistry::new(Engine::connect().await.unwrap()).resolve(&image).await;
    for resolved in [directly, by_engine] {
        match resolved {
            Ok(pinned) => println!("resolved {pinned}"),
            Err(error) => println!("{:?} {}", error.kind(), error.report()),
        }
    }
}

/// A helper that knows who pulls, and answers nothing else but the question for this registry.
fn knowing(world: &World) -> String {
    let (user, password) = PULLER;
    let answer = json!({ "Username": user, "Secret": password });
    let registry = &world.registry;
    format!("read -r asked; [ \"$1 $asked\" = 'get {registry}' ] && echo '{answer}'")
}

#[tokio::test]
async fn a_helper_is_asked_for_the_registry_that_is_meant() {
    Stand::new("helper")
        .guarded()
        .seeded()
        .run(async |world| {
            let said = with_helper(&world, &knowing(&world)).await;
            assert_eq!(said.matches("resolved ").count(), 2, "{said}");
        })
        .await;
}

#[tokio::test]
async fn the_store_of_all_registries_is_asked_where_none_is_named_for_this_one() {
    Stand::new("credsstore")
        .guarded()
        .seeded()
        .run(async |world| {
            let config =
                json!({ "credHelpers": { "other.example.org": "none" }, "credsStore": "test" });
            let said = with_config(&world, &knowing(&world), &config).await;
            assert_eq!(said.matches("resolved ").count(), 2, "{said}");
        })
        .await;
}

#[tokio::test]
async fn a_refusal_names_the_helper_that_the_credentials_came_from() {
    Stand::new("helped")
        .guarded()
        .run(async |world| {
            let script = r#"echo '{"Username":"me","Secret":"wrong-word"}'"#;
            let said = with_helper(&world, script).await;
            let named = "the credentials from docker-credential-test, which ";
            assert_eq!(said.matches("Denied ").count(), 2, "{said}");
            assert_eq!(said.matches(named).count(), 2, "{said}");
            assert!(!said.contains("wrong-word"), "{said}");
        })
        .await;
}

#[tokio::test]
async fn a_helper_that_has_nothing_is_no_error_and_one_that_fails_is_named_without_its_words() {
    Stand::new("helpless")
        .guarded()
        .run(async |world| {
            let nothing = "echo 'credentials not found in native keychain'; exit 1";
            let said = with_helper(&world, nothing).await;
            assert_eq!(said.matches("a request without credentials").count(), 2, "{said}");
            let said = with_helper(&world, "echo secret-word; exit 3").await;
            assert_eq!(said.matches("docker-credential-test, which").count(), 2, "{said}");
            assert!(said.contains("exit status: 3") && !said.contains("secret-word"), "{said}");
        })
        .await;
}

#[tokio::test]
async fn a_helper_that_never_stops_talking_is_stopped() {
    Stand::new("chatty")
        .guarded()
        .run(async |world| {
            let said = with_helper(&world, "exec head -c 100000000 /dev/zero").await;
            assert_eq!(said.matches("failed with signal").count(), 2, "{said}");
        })
        .await;
}
