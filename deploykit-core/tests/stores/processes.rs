//! What only shows with a second process: its death, and a limit on what it can write.
#![cfg(unix)]

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use deploykit_core::{DirectoryStore, ErrorKind, ServiceName, Store};

use crate::{Directory, TTL, history, lines, owner, web};

/// Where a test's second process finds the store.
const STORE: &str = "DEPLOYKIT_TEST_STORE";

/// A test of this file in a process of its own, through a shell that may set limits first.
fn start(directory: &Directory, test: &str, shell: &str) -> Child {
    Command::new("sh")
        .args(["-c", &format!("{shell} exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(STORE, directory.0.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn store_of_the_parent() -> DirectoryStore {
    DirectoryStore::open(std::env::var(STORE).unwrap()).unwrap()
}

#[tokio::test]
async fn the_death_of_a_process_ends_its_lease_with_no_wait() {
    let directory = Directory::default();
    let mut child = start(&directory, "processes::holder", "");
    let output = BufReader::new(child.stdout.take().unwrap());
    assert!(
        output.lines().any(|line| line.unwrap().contains("held")),
        "the second process ended early"
    );

    let store = directory.open();
    let error = store.acquire(&web(), &owner("b"), TTL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let holder = format!("process {}", child.id());
    assert!(error.to_string().contains(&holder), "{error}");

    child.kill().unwrap();
    child.wait().unwrap();
    let lease = store.acquire(&web(), &owner("b"), TTL).await.unwrap();
    assert_eq!(store.read(&history(), 0).await.unwrap(), lines([1]));
    assert!(lease.token > 1);
}

#[tokio::test]
#[ignore = "started in a process of its own by the_death_of_a_process_ends_its_lease_with_no_wait"]
async fn holder() {
    let store = store_of_the_parent();
    let mut owner = owner("child");
    owner.pid = std::process::id();
    let lease = store.acquire(&web(), &owner, TTL).await.unwrap();
    store.append(&lease, &history(), 0, &lines([1])).await.unwrap();
    println!("held");
    std::future::pending::<()>().await;
}

#[test]
fn a_disk_without_room_is_an_error_that_names_the_file_and_keeps_the_journal_whole() {
    let directory = Directory::default();
    // One block at most for a file, and an error instead of a signal for who wants more.
    let child = start(&directory, "processes::without_room", "trap '' XFSZ; ulimit -f 1;");
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "started under a limit by a_disk_without_room_is_an_error_that_names_the_file_and_keeps_the_journal_whole"]
async fn without_room() {
    let store = store_of_the_parent();
    let lease = store.acquire(&web(), &owner("ci"), TTL).await.unwrap();
    let batch = lines([1, 2, 3]);
    let mut kept = 0;
    let error = loop {
        match store.append(&lease, &history(), kept, &batch).await {
            Ok(now) => kept = now,
            Err(error) => break error,
        }
        assert!(kept < 10_000, "the limit does not hold");
    };
    assert!(error.to_string().contains("web/history.jsonl"), "{error}");
    assert!(error.hint().unwrap().contains("free space"), "{error}");
    assert!(kept > 0);
    let read = store.read(&history(), 0).await.unwrap();
    assert_eq!(read.len() as u64, kept);

    let blob = store.put(&lease, "plan", &[b'x'; 4_096]).await;
    assert!(blob.unwrap_err().to_string().contains("blob/plan"));
    assert_eq!(store.get(&web(), "plan").await.unwrap(), None);
}

/// How often the two ask for a lease at the same time.
const ROUNDS: usize = 100;

/// A process that asks for the lease of one service after the other, each when it is told to.
struct Rival {
    child: Child,
    starts: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Rival {
    fn start(directory: &Directory) -> Self {
        let mut child = start(directory, "processes::rival", "");
        let starts = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut rival = Self { child, starts, answers };
        assert_eq!(rival.answer(), "ready");
        rival
    }

    fn go(&mut self) {
        self.starts.write_all(b"go\n").unwrap();
    }

    /// What it says next, past what the test runner prints.
    fn answer(&mut self) -> String {
        loop {
            let line = self.answers.next().unwrap().unwrap();
            if let Some((_, said)) = line.split_once("rival: ") {
                return said.to_owned();
            }
        }
    }
}

#[test]
fn of_two_processes_that_ask_together_exactly_one_gets_the_lease_a_hundred_times() {
    let directory = Directory::default();
    let (mut one, mut other) = (Rival::start(&directory), Rival::start(&directory));
    for round in 0..ROUNDS {
        one.go();
        other.go();
        let (first, second) = (one.answer(), other.answer());
        let (holder, refused) = match (first.as_str(), second.as_str()) {
            ("took it", refused) => (&one, refused),
            (refused, "took it") => (&other, refused),
            both => panic!("round {round}: not exactly one of them: {both:?}"),
        };
        let by = format!("held by rival on runner-1 (process {})", holder.child.id());
        assert!(refused.starts_with("Conflict: ") && refused.contains(&by), "{round}: {refused}");
        assert!(refused.contains(") since 2026-09-21T"), "{round}: {refused}");
    }
    for mut rival in [one, other] {
        drop(rival.starts);
        assert!(rival.child.wait().unwrap().success());
    }
}

#[tokio::test]
#[ignore = "started twice by of_two_processes_that_ask_together_exactly_one_gets_the_lease_a_hundred_times"]
async fn rival() {
    let store = store_of_the_parent();
    let mut owner = owner("rival");
    owner.pid = std::process::id();
    println!("rival: ready");
    // A service that nobody has asked for yet in each round: its directory is made by both of them, too.
    for (round, start) in std::io::stdin().lines().enumerate() {
        start.unwrap();
        let service = ServiceName::new(format!("web-{round}")).unwrap();
        match store.acquire(&service, &owner, TTL).await {
            Ok(_) => println!("rival: took it"),
            Err(error) => println!("rival: {:?}: {}", error.kind(), error.message()),
        }
    }
}
