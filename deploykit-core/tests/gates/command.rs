use std::process::{Command, Stdio};
use std::time::Duration;

use deploykit_core::{CommandGate, Entry, ErrorKind, HealthGate, Verdict};
use tokio::time::Instant;

use crate::{context, expect};

fn shell(script: &str) -> CommandGate {
    CommandGate::new("sh").with_args(["-c", script])
}

#[tokio::test]
async fn the_exit_code_is_the_verdict() {
    for (script, verdict, told) in [
        ("exit 0", Verdict::Pass, "exit code 0"),
        ("exit 1", Verdict::Fail, "exit code 1"),
        ("exit 2", Verdict::Inconclusive, "exit code 2"),
        ("no-such-program-here", Verdict::Inconclusive, "exit code 127"),
        ("kill -9 $$", Verdict::Inconclusive, "signal"),
    ] {
        let evidence = expect(verdict, &shell(script), &context()).await;
        assert!(evidence.contains(told), "{script}: {evidence}");
    }
}

#[tokio::test]
async fn the_last_lines_of_both_outputs_are_the_evidence() {
    let gate = shell("echo one; echo two; echo three >&2; exit 1");
    let evidence = expect(Verdict::Fail, &gate, &context()).await;
    assert_eq!(evidence, "sh ended with exit code 1: one / two / three");
}

#[tokio::test]
async fn a_lot_of_output_neither_stops_the_command_nor_becomes_evidence() {
    let gate = shell("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done");
    let evidence = expect(Verdict::Pass, &gate, &context()).await;
    assert!(evidence.ends_with("line 19998 / line 19999"), "{evidence}");
    assert!(evidence.len() < 2_500, "{}", evidence.len());
    let one_line = shell("head -c 1000000 /dev/zero | tr '\\0' x");
    let evidence = expect(Verdict::Pass, &one_line, &context()).await;
    assert!(evidence.len() < 2_500, "{}", evidence.len());
}

#[tokio::test]
async fn output_that_is_no_text_becomes_printable() {
    let gate = shell("printf '\\033[31mred\\377\\n'");
    let evidence = expect(Verdict::Pass, &gate, &context()).await;
    assert!(evidence.contains("[31mred") && !evidence.contains(char::is_control), "{evidence:?}");
}

#[tokio::test]
async fn the_command_is_told_about_the_rollout() {
    let mut context = context();
    let entry = |port, headers: &[(&str, &str)]| {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Some(Entry { url: format!("http://127.0.0.1:{port}"), headers })
    };
    context.entry = entry(80, &[]);
    context.test_entry = entry(81, &[("x-deploykit-test", "web"), ("b", "2")]);
    context.targets = vec!["10.0.0.1:8080".to_owned(), "10.0.0.2:8080".to_owned()];
    for (variable, value) in [
        ("SERVICE", "web"),
        ("ROLLOUT", "web-7"),
        ("PLACE", "B"),
        ("REVISION", "web:2"),
        ("STABLE_PLACE", "A"),
        ("URL", "http://127.0.0.1:80"),
        ("TEST_URL", "http://127.0.0.1:81"),
        ("TEST_HEADERS", "x-deploykit-test: web / b: 2"),
        ("TARGETS", "10.0.0.1:8080,10.0.0.2:8080"),
    ] {
        let gate = shell(&format!("echo \"$DEPLOYKIT_{variable}\""));
        let evidence = expect(Verdict::Pass, &gate, &context).await;
        assert_eq!(evidence, format!("sh ended with exit code 0: {value}"), "{variable}");
    }
}

#[tokio::test]
async fn what_there_is_not_is_not_set() {
    let gate = shell("env | grep -E 'DEPLOYKIT_(URL|HEADERS|TEST_|TARGETS)' || true");
    assert_eq!(expect(Verdict::Pass, &gate, &context()).await, "sh ended with exit code 0");
}

#[tokio::test]
async fn variables_of_the_user_are_set_and_stay_out_of_debug() {
    let gate = shell("test \"$KEY\" = hush").with_env("KEY", "hush").with_args(["--token=hush"]);
    expect(Verdict::Pass, &gate, &context()).await;
    let debug = format!("{gate:?}");
    assert!(debug.contains("KEY") && !debug.contains("hush"), "{debug}");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_no_measurement_and_is_named() {
    for (program, kind) in
        [("./no-such-program", ErrorKind::NotFound), ("/etc/passwd", ErrorKind::Denied)]
    {
        let error = CommandGate::new(program).measure(&context()).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(program), "{error}");
    }
}

#[tokio::test]
async fn the_command_is_killed_when_its_measurement_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let gate = shell("echo $$ > $PID_FILE.new; mv $PID_FILE.new $PID_FILE; exec sleep 600")
        .with_env("PID_FILE", &file);
    let context = context();
    let pid = tokio::select! {
        measured = gate.measure(&context) => panic!("ended by itself: {measured:?}"),
        pid = until("it runs", || std::fs::read_to_string(&file).ok()) => pid,
    };
    until("it is gone", || (!alive(pid.trim())).then_some(())).await;
}

#[tokio::test]
async fn a_process_left_in_the_background_does_not_hold_up_the_verdict() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let gate = shell("sleep 600 & echo $! > $PID_FILE; echo done").with_env("PID_FILE", &file);
    let context = context();
    let evidence = expect(Verdict::Pass, &gate, &context).await;
    let left = std::fs::read_to_string(&file).unwrap();
    let killed = Command::new("kill").args(["-9", left.trim()]).status().unwrap();
    assert!(killed.success(), "it was still there");
    assert!(evidence.ends_with("done"), "{evidence}");
}

/// Whether it still counts: one that was killed and collected does not.
fn alive(pid: &str) -> bool {
    let asked = Command::new("kill").args(["-0", pid]).stderr(Stdio::null()).status();
    asked.unwrap().success()
}

async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
