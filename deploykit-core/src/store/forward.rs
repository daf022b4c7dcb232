use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Journal, Lease, Owner, Store};
use crate::error::Result;
use crate::name::{RolloutId, ServiceName};

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: Store + ?Sized> Store for $pointer<T> {
            async fn acquire(&self, service: &ServiceName, owner: &Owner, ttl: Duration) -> Result<Lease> {
                (**self).acquire(service, owner, ttl).await
            }
            async fn steal(&self, service: &ServiceName, owner: &Owner, ttl: Duration) -> Result<Lease> {
                (**self).steal(service, owner, ttl).await
            }
            async fn renew(&self, lease: &Lease) -> Result<()> {
                (**self).renew(lease).await
            }
            async fn release(&self, lease: &Lease) -> Result<()> {
                (**self).release(lease).await
            }
            async fn append(&self, lease: &Lease, journal: &Journal, expected: u64, lines: &[String]) -> Result<u64> {
                (**self).append(lease, journal, expected, lines).await
            }
            async fn read(&self, journal: &Journal, from: u64) -> Result<Vec<String>> {
                (**self).read(journal, from).await
            }
            async fn put(&self, lease: &Lease, name: &str, bytes: &[u8]) -> Result<()> {
                (**self).put(lease, name, bytes).await
            }
            async fn get(&self, service: &ServiceName, name: &str) -> Result<Option<Vec<u8>>> {
                (**self).get(service, name).await
            }
            async fn post(&self, service: &ServiceName, rollout: &RolloutId, line: &str) -> Result<()> {
                (**self).post(service, rollout, line).await
            }
            async fn posted(&self, service: &ServiceName, rollout: &RolloutId, from: u64) -> Result<Vec<String>> {
                (**self).posted(service, rollout, from).await
            }
            async fn remove(&self, lease: &Lease, rollout: &RolloutId) -> Result<()> {
                (**self).remove(lease, rollout).await
            }
            async fn services(&self) -> Result<Vec<ServiceName>> {
                (**self).services().await
            }
        }
    )*};
}

forward!(Arc, Box);
