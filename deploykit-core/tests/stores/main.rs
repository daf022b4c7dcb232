//! What only the store in a directory can get wrong. What every store promises is the conformance suite of
//! `deploykit-testing`, which runs on this one there: a dependency from here would be a circle, and the crates could not
//! be published one after the other.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do"
)]

mod damage;
mod processes;

use std::path::PathBuf;
use std::time::Duration;

use deploykit_core::{DirectoryStore, Journal, Owner, RolloutId, ServiceName, Timestamp};
use tempfile::TempDir;

struct Directory(TempDir);

impl Default for Directory {
    fn default() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Directory {
    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn open(&self) -> DirectoryStore {
        DirectoryStore::open(self.0.path()).unwrap()
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

const TTL: Duration = Duration::from_secs(30);

fn web() -> ServiceName {
    ServiceName::new("web").unwrap()
}

fn owner(name: &str) -> Owner {
    Owner {
        name: name.to_owned(),
        host: "runner-1".to_owned(),
        pid: 4711,
        since: Timestamp::from_millis(1_790_000_000_100),
    }
}

fn history() -> Journal {
    Journal::History(web())
}

fn rollout(id: &str) -> Journal {
    Journal::Rollout(web(), RolloutId::new(id))
}

/// Lines as journals hold them.
fn lines<const N: usize>(numbers: [u32; N]) -> Vec<String> {
    numbers.map(|n| format!("{{\"n\":{n}}}")).to_vec()
}
