use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use super::{Journal, Lease, Owner, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{RolloutId, ServiceName};
use crate::time::human;

/// How long a call to a store may take.
const CALL: Duration = Duration::from_secs(15);

/// A store that answers in time, or with an error that may pass.
#[derive(Debug)]
pub(crate) struct Timed<S>(pub(crate) S);

async fn timed<T>(what: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(CALL, call).await.unwrap_or_else(|_| {
        let message = format!("the store did not {what} within {}", human(CALL));
        Err(Error::new(ErrorKind::Timeout, message).with_hint("look whether it can be reached"))
    })
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Store for Timed<S> {
    async fn acquire(&self, service: &ServiceName, owner: &Owner, ttl: Duration) -> Result<Lease> {
        timed("give a lease", self.0.acquire(service, owner, ttl)).await
    }
    async fn steal(&self, service: &ServiceName, owner: &Owner, ttl: Duration) -> Result<Lease> {
        timed("give a lease", self.0.steal(service, owner, ttl)).await
    }
    async fn renew(&self, lease: &Lease) -> Result<()> {
        timed("renew a lease", self.0.renew(lease)).await
    }
    async fn release(&self, lease: &Lease) -> Result<()> {
        timed("take a lease back", self.0.release(lease)).await
    }
    async fn append(
        &self,
        lease: &Lease,
        journal: &Journal,
        expected: u64,
        lines: &[String],
    ) -> Result<u64> {
        timed("append", self.0.append(lease, journal, expected, lines)).await
    }
    async fn read(&self, journal: &Journal, from: u64) -> Result<Vec<String>> {
        timed("read a journal", self.0.read(journal, from)).await
    }
    async fn put(&self, lease: &Lease, name: &str, bytes: &[u8]) -> Result<()> {
        timed("keep a blob", self.0.put(lease, name, bytes)).await
    }
    async fn get(&self, service: &ServiceName, name: &str) -> Result<Option<Vec<u8>>> {
        timed("read a blob", self.0.get(service, name)).await
    }
    async fn post(&self, service: &ServiceName, rollout: &RolloutId, line: &str) -> Result<()> {
        timed("keep a request", self.0.post(service, rollout, line)).await
    }
    async fn posted(
        &self,
        service: &ServiceName,
        rollout: &RolloutId,
        from: u64,
    ) -> Result<Vec<String>> {
        // It waits for whoever asks for something.
        self.0.posted(service, rollout, from).await
    }
    async fn remove(&self, lease: &Lease, rollout: &RolloutId) -> Result<()> {
        timed("remove a journal", self.0.remove(lease, rollout)).await
    }
    async fn services(&self) -> Result<Vec<ServiceName>> {
        timed("list its services", self.0.services()).await
    }
}
