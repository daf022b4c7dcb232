use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Journal, Lease, Owner, Store, checks};
use crate::error::Result;
use crate::name::{RolloutId, ServiceName};

/// A store in this process's memory, for tests and for rollouts that nobody needs to recover.
///
/// Clones share everything, so a test can drop a deployer and recover with another one. Nothing outlives the process.
/// Leases run on tokio's clock, and end only by being released or by their time to live: a dropped deployer's lease
/// stays until then.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Somebody has asked for something.
    posted: Notify,
}

#[derive(Default)]
struct State {
    leases: BTreeMap<ServiceName, Slot>,
    journals: BTreeMap<Journal, Vec<String>>,
    requests: BTreeMap<(ServiceName, RolloutId), Vec<String>>,
    blobs: BTreeMap<(ServiceName, String), Vec<u8>>,
}

/// The lease of one service, or the memory of the last one.
struct Slot {
    token: u64,
    held: Option<Held>,
}

struct Held {
    owner: Owner,
    /// None: beyond what the clock can tell.
    until: Option<Instant>,
}

impl Held {
    fn valid(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

impl Slot {
    fn give(&mut self, service: &ServiceName, owner: &Owner, ttl: Duration) -> Lease {
        self.token += 1;
        self.held = Some(Held { owner: owner.clone(), until: Instant::now().checked_add(ttl) });
        Lease { service: service.clone(), token: self.token, ttl }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked, and each change is a single one.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is held under this lease, while it is valid.
    fn held(&mut self, lease: &Lease) -> Result<&mut Held> {
        self.leases
            .get_mut(&lease.service)
            .filter(|slot| slot.token == lease.token)
            .and_then(|slot| slot.held.as_mut())
            .filter(|held| held.valid())
            .ok_or_else(|| checks::not_valid(lease))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn acquire(&self, service: &ServiceName, owner: &Owner, ttl: Duration) -> Result<Lease> {
        let mut state = self.state();
        let slot = state.leases.entry(service.clone()).or_insert(Slot { token: 0, held: None });
        if let Some(held) = slot.held.as_ref().filter(|held| held.valid()) {
            return Err(checks::held(service, &held.owner));
        }
        Ok(slot.give(service, owner, ttl))
    }

    async fn steal(&self, service: &ServiceName, owner: &Owner, ttl: Duration) -> Result<Lease> {
        let mut state = self.state();
        let slot = state.leases.entry(service.clone()).or_insert(Slot { token: 0, held: None });
        Ok(slot.give(service, owner, ttl))
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        self.state().held(lease)?.until = Instant::now().checked_add(lease.ttl);
        Ok(())
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        if let Some(slot) = self.state().leases.get_mut(&lease.service)
            && slot.token == lease.token
        {
            slot.held = None;
        }
        Ok(())
    }

    async fn append(
        &self,
        lease: &Lease,
        journal: &Journal,
        expected: u64,
        lines: &[String],
    ) -> Result<u64> {
        checks::lines(lease, journal, lines)?;
        let mut state = self.state();
        state.held(lease)?;
        let found = state.journals.get(journal).map_or(0, Vec::len) as u64;
        checks::length(journal, expected, found)?;
        if lines.is_empty() {
            return Ok(found);
        }
        let kept = state.journals.entry(journal.clone()).or_default();
        kept.extend_from_slice(lines);
        Ok(kept.len() as u64)
    }

    async fn read(&self, journal: &Journal, from: u64) -> Result<Vec<String>> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let state = self.state();
        let lines = state.journals.get(journal).into_iter().flatten();
        Ok(lines.skip(from).cloned().collect())
    }

    async fn put(&self, lease: &Lease, name: &str, bytes: &[u8]) -> Result<()> {
        let mut state = self.state();
        state.held(lease)?;
        let key = (lease.service.clone(), name.to_owned());
        state.blobs.insert(key, bytes.to_vec());
        Ok(())
    }

    async fn get(&self, service: &ServiceName, name: &str) -> Result<Option<Vec<u8>>> {
        let key = (service.clone(), name.to_owned());
        Ok(self.state().blobs.get(&key).cloned())
    }

    async fn post(&self, service: &ServiceName, rollout: &RolloutId, line: &str) -> Result<()> {
        checks::line(line)?;
        let key = (service.clone(), rollout.clone());
        self.state().requests.entry(key).or_default().push(line.to_owned());
        self.0.posted.notify_waiters();
        Ok(())
    }

    async fn posted(
        &self,
        service: &ServiceName,
        rollout: &RolloutId,
        from: u64,
    ) -> Result<Vec<String>> {
        let (key, from) = ((service.clone(), rollout.clone()), usize::try_from(from));
        loop {
            // Made first: it notices what is posted from here on.
            let posted = self.0.posted.notified();
            let requests = self.state().requests.get(&key).cloned().unwrap_or_default();
            let news: Vec<_> = requests.into_iter().skip(from.unwrap_or(usize::MAX)).collect();
            if !news.is_empty() {
                return Ok(news);
            }
            posted.await;
        }
    }

    async fn remove(&self, lease: &Lease, rollout: &RolloutId) -> Result<()> {
        let mut state = self.state();
        state.held(lease)?;
        let service = lease.service.clone();
        state.requests.remove(&(service.clone(), rollout.clone()));
        let blob = (service.clone(), rollout.as_str().to_owned());
        state.blobs.remove(&blob);
        state.journals.remove(&Journal::Rollout(service, rollout.clone()));
        Ok(())
    }

    async fn services(&self) -> Result<Vec<ServiceName>> {
        let state = self.state();
        let names: BTreeSet<_> = state.journals.keys().map(Journal::service).collect();
        Ok(names.into_iter().cloned().collect())
    }
}

impl fmt::Debug for MemoryStore {
    /// How much there is, not what: plans and journals are long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("MemoryStore")
            .field("journals", &state.journals.len())
            .field("blobs", &state.blobs.len())
            .finish_non_exhaustive()
    }
}
