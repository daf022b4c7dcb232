//! What the directory makes of files that are cut short, damaged, in the way or not to be written.

use std::time::Duration;

use deploykit_core::{DirectoryStore, ErrorKind, RolloutId, Store};
use tokio::time::Instant;

use crate::{Directory, TTL, history, lines, owner, rollout, web};

#[tokio::test]
async fn a_line_cut_off_by_a_power_cut_is_ignored_and_cut_away_by_the_next_append() {
    for torn in ["{", "{\"n\":2}", "\0\0\0\0", "{\"n\":2}\r\n", "{\"n\":2}\r\n{\"n\":3}\r"] {
        let directory = Directory::default();
        directory.write("web/history.jsonl", format!("{{\"n\":1}}\n{torn}"));
        let store = directory.open();
        assert_eq!(store.read(&history(), 0).await.unwrap(), lines([1]), "{torn:?}");

        let lease = store.acquire(&web(), &owner("ci"), TTL).await.unwrap();
        let appended = store.append(&lease, &history(), 1, &lines([7])).await;
        assert_eq!(appended.unwrap(), 2);
        assert_eq!(directory.read("web/history.jsonl"), "{\"n\":1}\n{\"n\":7}\n");
    }
}

#[tokio::test]
async fn a_batch_cut_off_anywhere_is_not_there_at_all() {
    let directory = Directory::default();
    let store = directory.open();
    let lease = store.acquire(&web(), &owner("ci"), TTL).await.unwrap();
    store.append(&lease, &rollout("web-1"), 0, &lines([1])).await.unwrap();
    let file = "web/journal/web-1.jsonl";
    let before = directory.read(file).len();
    store.append(&lease, &rollout("web-1"), 1, &lines([2, 3, 4])).await.unwrap();
    let whole = directory.read(file);
    for len in before..whole.len() {
        directory.write(file, &whole[..len]);
        let kept = store.read(&rollout("web-1"), 0).await.unwrap();
        assert_eq!(kept, lines([1]), "cut to {len} bytes");
    }
}

#[tokio::test]
async fn a_damaged_line_is_told_with_file_and_number() {
    for (damaged, number) in [
        (&b"{\"n\":1}\n{\"n\n{\"n\":3}\n"[..], 2),
        (b"{\"n\":1}\n{\"n\":2}\nrubbish\n", 3),
        (b"\xff\xfe\n{\"n\":2}\n", 1),
        (b"{\"n\":1}\n\n{\"n\":3}\n", 2),
    ] {
        let directory = Directory::default();
        directory.write("web/history.jsonl", damaged);
        let error = directory.open().read(&history(), 0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let file = directory.path("web/history.jsonl");
        let place = format!("{} line {number} ", file.display());
        assert!(error.to_string().contains(&place), "{error}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn rubbish_in_the_lease_file_locks_nobody_out_and_no_token_comes_back() {
    let directory = Directory::default();
    let mut last = 0;
    for rubbish in ["", "rubbish", "{\"token\":0}", "\0"] {
        let store = directory.open();
        let lease = store.acquire(&web(), &owner("ci"), TTL).await.unwrap();
        assert!(lease.token > last);
        last = lease.token;
        directory.write("web/lease.json", rubbish);
    }
}

#[tokio::test]
async fn rubbish_in_the_token_file_is_made_up_for_by_the_lease_file() {
    let directory = Directory::default();
    let store = directory.open();
    let first = store.acquire(&web(), &owner("ci"), TTL).await.unwrap();
    drop(store);
    directory.write("web/token", "rubbish");
    let store = directory.open();
    let second = store.acquire(&web(), &owner("ci"), TTL).await.unwrap();
    assert!(second.token > first.token);
}

#[tokio::test]
async fn a_token_that_is_lost_altogether_is_not_made_up() {
    for token in ["rubbish", "18446744073709551615"] {
        let directory = Directory::default();
        directory.write("web/token", token);
        directory.write("web/lease.json", "rubbish");
        let error = directory.open().acquire(&web(), &owner("ci"), TTL).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let file = directory.path("web/token");
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn a_lease_held_beside_a_damaged_lease_file_is_still_held() {
    let directory = Directory::default();
    let holder = directory.open();
    holder.acquire(&web(), &owner("ci"), TTL).await.unwrap();
    directory.write("web/lease.json", "rubbish");
    let error = directory.open().acquire(&web(), &owner("b"), TTL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("lease.json"), "{error}");
}

#[tokio::test]
async fn a_lease_ends_when_its_handle_is_dropped() {
    let directory = Directory::default();
    let holder = directory.open();
    holder.acquire(&web(), &owner("ci"), TTL).await.unwrap();
    drop(holder);
    let store = directory.open();
    assert!(store.acquire(&web(), &owner("b"), TTL).await.is_ok());
}

#[test]
fn a_lease_runs_out_even_where_the_runtime_that_took_it_is_gone() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    let directory = Directory::default();
    let store = directory.open();
    let lease = runtime().block_on(store.acquire(&web(), &owner("ci"), TTL)).unwrap();
    runtime().block_on(async {
        tokio::time::advance(2 * TTL).await;
        let late = store.append(&lease, &history(), 0, &lines([1])).await;
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict);
        store.acquire(&web(), &owner("b"), TTL).await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn paused_time_stands_still_while_files_are_written() {
    let directory = Directory::default();
    let store = directory.open();
    let began = Instant::now();
    // Something for paused time to jump to as soon as nothing else is to be done.
    let _timer = tokio::spawn(tokio::time::sleep(Duration::from_secs(1)));
    let lease = store.acquire(&web(), &owner("ci"), TTL).await.unwrap();
    for n in 0..20 {
        store.append(&lease, &history(), n, &lines([1])).await.unwrap();
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[test]
fn something_else_in_the_directory_s_place_is_named() {
    let directory = Directory::default();
    directory.write("file", "");
    let error = DirectoryStore::open(directory.path("file")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let path = directory.path("file");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn something_else_in_a_journal_s_place_is_named() {
    let directory = Directory::default();
    let store = directory.open();
    let lease = store.acquire(&web(), &owner("ci"), TTL).await.unwrap();
    let path = directory.path("web/history.jsonl");
    std::fs::create_dir(&path).unwrap();
    let error = store.append(&lease, &history(), 0, &lines([1])).await.unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(error.hint().is_some());
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_cannot_be_written_is_named_with_what_to_do() {
    // Not even root can make a directory there.
    let error = DirectoryStore::open("/sys/deploykit").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("/sys/deploykit"), "{error}");
    assert!(error.hint().unwrap().contains("directory"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_what_is_kept() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = Directory::default();
    let store = DirectoryStore::open(directory.path("store")).unwrap();
    let lease = store.acquire(&web(), &owner("ci"), TTL).await.unwrap();
    for journal in [history(), rollout("web-1")] {
        store.append(&lease, &journal, 0, &lines([1])).await.unwrap();
    }
    store.put(&lease, "plan", b"{}").await.unwrap();
    store.post(&web(), &RolloutId::new("web-1"), "{}").await.unwrap();

    let mut seen = 0;
    let mut paths = vec![directory.path("store")];
    while let Some(path) = paths.pop() {
        seen += 1;
        let metadata = path.metadata().unwrap();
        let mode = metadata.permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} {mode:o}", path.display());
        if metadata.is_dir() {
            paths.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert_eq!(seen, 13, "root, service, journal, blob, ask and eight files");
}
