//! What a store promises, asked of each backend, and what only the directory can get wrong.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do"
)]

mod conformance;
mod damage;
mod processes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deploykit_core::{
    DirectoryStore, Journal, MemoryStore, Owner, RolloutId, ServiceName, Store, Timestamp,
};
use tempfile::TempDir;

/// Makes handles onto one and the same store.
trait Backend: Sync {
    fn open(&self) -> Arc<dyn Store>;
}

#[derive(Default)]
struct Memory(MemoryStore);

impl Backend for Memory {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.0.clone())
    }
}

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

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

impl Backend for Directory {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(DirectoryStore::open(self.0.path()).unwrap())
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

macro_rules! for_each_backend {
    ($($promise:ident)*) => {
        mod memory {
            $(#[tokio::test(start_paused = true)]
            async fn $promise() {
                crate::conformance::$promise(&crate::Memory::default()).await;
            })*
        }
        mod directory {
            $(#[tokio::test(start_paused = true)]
            async fn $promise() {
                crate::conformance::$promise(&crate::Directory::default()).await;
            })*
        }
    };
}

for_each_backend! {
    a_held_lease_is_refused_saying_who_holds_it_where_and_since_when
    one_of_many_that_acquire_at_once_gets_the_lease
    each_lease_has_a_greater_token_than_all_before
    a_lease_that_is_not_renewed_ends_after_its_time_to_live
    a_renewed_lease_lives_on
    a_lease_that_ended_cannot_be_renewed
    a_released_lease_is_free_at_once
    releasing_a_former_lease_does_not_touch_its_successor
    leases_of_two_services_do_not_exclude_each_other
    the_longest_time_to_live_is_no_overflow
    what_was_appended_is_read_from_any_line_on
    an_append_that_expects_another_length_is_stale_and_changes_nothing
    an_append_under_an_ended_lease_is_refused_and_changes_nothing
    an_append_under_a_token_that_was_never_given_is_refused
    an_append_to_another_service_s_journal_is_refused
    a_batch_with_one_line_that_cannot_be_kept_leaves_nothing_behind
    one_of_many_appends_at_the_same_length_is_taken
    a_dropped_append_has_happened_or_not_and_the_next_one_can_rely_on_it
    an_append_of_nothing_makes_no_journal
    journals_with_hostile_names_stay_apart
    blobs_are_kept_under_any_name
    a_blob_is_replaced_by_one_of_the_same_name
    nothing_is_put_or_removed_under_an_ended_lease
    a_removed_rollout_takes_its_journal_and_blob_and_nothing_else
    services_are_those_that_have_a_journal_in_order
    what_does_not_exist_is_read_as_nothing
}
