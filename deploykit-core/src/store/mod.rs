//! Where decisions are kept: journals, leases, plans and releases.

mod checks;
mod directory;
mod files;
mod forward;
mod lines;
mod memory;
mod timed;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::name::{RolloutId, ServiceName};
use crate::time::Timestamp;

pub use directory::DirectoryStore;
pub use memory::MemoryStore;
pub(crate) use timed::Timed;

/// Keeps what was decided, and who may decide.
///
/// Everything belongs to a service, and whoever writes shows the service's lease. Lines and blobs are opaque here: JSON
/// documents that this library versions itself.
///
/// **Durability.** What a returned call wrote survives the death of the process, and of the computer where the backend
/// says so. **Cancellation.** A dropped write has happened or not, never in part; the caller reads before it goes on.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Takes the lease of a service.
    ///
    /// **Contract.** At most one lease of a service is valid at any time. A lease ends when it is released, when its
    /// time to live passes without a [`renew`](Self::renew), or, where the backend can tell, when the process that
    /// holds it dies. Each lease's token is greater than all before it.
    ///
    /// **Cancellation.** A dropped call may have taken the lease, and nobody knows its token: it ends by its time to live.
    ///
    /// **Errors.** `Conflict`, saying who holds it, where, and since when.
    async fn acquire(&self, service: &ServiceName, owner: &Owner, ttl: Duration) -> Result<Lease>;

    /// Takes the lease of a service away from whoever holds it: for an operator who knows that the holder hangs.
    ///
    /// **Contract.** As [`acquire`](Self::acquire), but a lease that is valid ends. Whoever held it is refused from then on;
    /// what it was doing at that moment may still land.
    async fn steal(&self, service: &ServiceName, owner: &Owner, ttl: Duration) -> Result<Lease>;

    /// Extends a lease by its time to live from now on.
    ///
    /// **Errors.** `Conflict` when it is not valid any more; the holder must stop deciding.
    async fn renew(&self, lease: &Lease) -> Result<()>;

    /// Gives a lease back. One that is not valid any more is success.
    async fn release(&self, lease: &Lease) -> Result<()>;

    /// Appends lines to a journal, all or none.
    ///
    /// **Contract.** Only while `lease` is valid and the journal has exactly `expected` lines. Returns the new number
    /// of lines. Each line is one JSON document without a line break.
    ///
    /// **Idempotency.** After a lost answer the same call is `StalePlan`, for it has happened: whoever reads knows.
    ///
    /// **Errors.** `Conflict` when the lease is not valid; `StalePlan` when the journal has another length; `Invalid` for a
    /// line that cannot be one.
    async fn append(
        &self,
        lease: &Lease,
        journal: &Journal,
        expected: u64,
        lines: &[String],
    ) -> Result<u64>;

    /// Reads the lines of a journal from number `from` on, 0 being the first; none for one that does not exist.
    ///
    /// **Errors.** `Corrupt`, naming the file or item and the line, when what is stored cannot be read.
    async fn read(&self, journal: &Journal, from: u64) -> Result<Vec<String>>;

    /// Keeps a blob under a name, replacing one of the same name.
    ///
    /// **Errors.** `Conflict` when the lease is not valid.
    async fn put(&self, lease: &Lease, name: &str, bytes: &[u8]) -> Result<()>;

    /// A blob, if there is one of this name.
    async fn get(&self, service: &ServiceName, name: &str) -> Result<Option<Vec<u8>>>;

    /// Leaves a request for whoever runs a rollout. It needs no lease: it asks, and decides nothing.
    ///
    /// **Contract.** Requests are kept in the order in which they came, until the rollout is [removed](Self::remove). Each
    /// is one JSON document without a line break.
    ///
    /// **Errors.** `Invalid` for a line that cannot be one.
    async fn post(&self, service: &ServiceName, rollout: &RolloutId, line: &str) -> Result<()>;

    /// The requests for a rollout from number `from` on, 0 being the first. Where there is none yet, it waits for one.
    ///
    /// **Cancellation.** Safe: nothing is lost.
    async fn posted(
        &self,
        service: &ServiceName,
        rollout: &RolloutId,
        from: u64,
    ) -> Result<Vec<String>>;

    /// Removes a rollout's journal, its requests, and the blob of its name. What is not there is success.
    ///
    /// **Errors.** `Conflict` when the lease is not valid.
    async fn remove(&self, lease: &Lease, rollout: &RolloutId) -> Result<()>;

    /// The services that have a journal, in order.
    async fn services(&self) -> Result<Vec<ServiceName>>;
}

/// A journal of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Journal {
    /// What became of each rollout: begun, ended.
    History(ServiceName),
    /// The events of one rollout.
    Rollout(ServiceName, RolloutId),
}

impl Journal {
    /// Whose journal it is.
    pub fn service(&self) -> &ServiceName {
        match self {
            Self::History(service) | Self::Rollout(service, _) => service,
        }
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::History(service) => write!(f, "history of {service}"),
            Self::Rollout(_, rollout) => write!(f, "journal of {rollout}"),
        }
    }
}

/// Who holds a lease, for the people who find it held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Who: a user, a CI job.
    pub name: String,
    /// On this computer.
    pub host: String,
    /// In this process.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} (process {}) since {}", self.name, self.host, self.pid, self.since)
    }
}

/// The right to decide about a service, until it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// About this service.
    pub service: ServiceName,
    /// Greater than that of every earlier lease of the service.
    pub token: u64,
    /// How long it is valid after it was taken or renewed.
    pub ttl: Duration,
}
