use std::time::Duration;

use deploykit_core::{CommandHook, ErrorKind, Hook as _, HookContext, Point};
use tokio::time::timeout;

use crate::undoing::undoing;

fn shell(script: &str) -> CommandHook {
    CommandHook::new("sh").with_args(["-c", script])
}

/// What a hook prints, which it tells when it fails.
async fn printed(script: &str, context: &HookContext) -> String {
    let error = shell(&format!("{script}; exit 1")).run(context).await.unwrap_err();
    error.to_string()
}

#[tokio::test]
async fn only_exit_code_0_is_success_and_the_last_lines_are_told() {
    shell("echo fine").run(&undoing()).await.unwrap();
    for (script, told) in [
        (
            "echo migrating; echo no such table >&2; exit 1",
            "exit code 1: migrating / no such table",
        ),
        ("exit 2", "exit code 2"),
        ("kill -9 $$", "signal"),
    ] {
        let error = shell(script).run(&undoing()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other);
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[tokio::test]
async fn the_command_is_told_where_the_rollout_is_and_why_it_is_undone() {
    let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
    for (variable, value) in [
        ("POINT", "ON_UNDO".to_owned()),
        ("SERVICE", "web".to_owned()),
        ("ROLLOUT", "web-7".to_owned()),
        ("PLACE", "B".to_owned()),
        ("STABLE_PLACE", "A".to_owned()),
        ("IMAGE", "reg:5000/web:2".to_owned()),
        ("DIGEST", digest("2")),
        ("SIDECARS", format!("proxy: envoy@{}", digest("3"))),
        ("BEFORE_IMAGE", "reg:5000/web:1".to_owned()),
        ("BEFORE_DIGEST", digest("1")),
        ("WHY", "smoke: it is bad".to_owned()),
    ] {
        let told = printed(&format!("echo \"$DEPLOYKIT_{variable}\""), &undoing()).await;
        assert_eq!(told, format!("sh ended with exit code 1: {value}"), "{variable}");
    }
}

#[tokio::test]
async fn what_there_is_not_is_not_set() {
    let full = undoing();
    let mut release = full.release;
    release.sidecars.clear();
    let context = HookContext::new(Point::PreScaleUp, full.rollout, release);
    let told = printed("env | grep -E 'DEPLOYKIT_(WHY|BEFORE|SIDECARS|URL)'", &context).await;
    assert_eq!(told, "sh ended with exit code 1");
}

#[tokio::test]
async fn variables_of_the_user_are_set_and_stay_out_of_debug() {
    let hook = shell("test \"$KEY\" = hush").with_env("KEY", "hush").with_args(["--token=hush"]);
    hook.run(&undoing()).await.unwrap();
    let debug = format!("{hook:?}");
    assert!(debug.contains("KEY") && !debug.contains("hush"), "{debug}");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_named() {
    let error = CommandHook::new("./no-such-program").run(&undoing()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("hook command ./no-such-program"), "{error}");
}

#[tokio::test]
async fn a_command_that_is_not_done_in_time_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("alive");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    // It holds the pipe open as long as it lives, so that reading the pipe ends when it does.
    let hook = shell("exec sleep 600 > $ALIVE").with_env("ALIVE", &fifo);
    let context = undoing();
    let reading = tokio::task::spawn_blocking(move || std::fs::read(fifo));
    let ran = timeout(Duration::from_millis(500), hook.run(&context)).await;
    assert!(ran.is_err(), "{ran:?}");
    let read = timeout(Duration::from_secs(20), reading).await.expect("it was killed");
    assert_eq!(read.unwrap().unwrap(), b"");
}

#[tokio::test]
async fn whatever_the_reason_for_undoing_is_the_command_runs() {
    let mut context = undoing();
    context.why = Some(format!("smoke: \0 {}", "é".repeat(1 << 20)));
    shell("test -n \"$DEPLOYKIT_WHY\"").run(&context).await.unwrap();
}
