use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::{Journal, Lease, Owner, Store, checks, files, lines};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{RolloutId, ServiceName};

/// How often requests are looked for.
const LOOK: Duration = Duration::from_millis(500);
/// How often, and after what pauses, a file is tried to lock that nobody locks for longer than a write takes.
const TRIES: u32 = 1_000;
const TRY: Duration = Duration::from_millis(5);

/// A store in a directory of the local disk.
///
/// What a returned call wrote survives a power cut. Each service has a directory of its own, readable by its owner only:
///
/// | file | holds |
/// |---|---|
/// | `history.jsonl`, `journal/<rollout>.jsonl` | one JSON document a line |
/// | `blob/<name>` | a blob as it is; what a file name cannot hold is written as `%` and two digits |
/// | `ask/<rollout>.jsonl` | what somebody asked of a rollout |
/// | `lease.json` | who holds the lease, for people |
/// | `token` | the greatest token given so far |
/// | `lock` | nothing; it is locked as long as the lease is held. `.deal` is, while one is given out |
///
/// A journal whose end was cut off by a power cut reads as if that append had never been made, which is what its writer
/// was told.
///
/// **Leases.** They exclude processes, and handles within one process, that opened the same directory. A lease ends at
/// once when its process dies or the last clone of its handle is dropped. One that is not renewed ends by tokio's clock,
/// while the runtime that took it runs; a process that is frozen keeps its lease until it is killed, or the lease is stolen
/// from it. Times to live do not depend on the time of day.
///
/// **Assumptions.** The file system has file locks that hold for all that use the directory; network file systems may
/// not. Nobody removes `lock` while it is in use.
#[derive(Clone)]
pub struct DirectoryStore(Arc<Inner>);

struct Inner {
    root: PathBuf,
    slots: Mutex<BTreeMap<ServiceName, Slot>>,
}

/// The lease that this handle holds of one service. Whoever works on the service's files has it locked.
type Slot = Arc<AsyncMutex<Option<Held>>>;

struct Held {
    token: u64,
    /// None: beyond what the clock can tell.
    until: Option<Instant>,
    lock: Lock,
}

impl Held {
    fn valid(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until) && self.lock.is_current()
    }
}

/// The locked file `lock`, and where it is.
struct Lock(File, PathBuf);

impl Lock {
    /// Locks a new file and puts it in the place of the one that somebody else has.
    fn steal(path: &Path) -> Result<Self> {
        let fresh = path.with_file_name(".lock.new");
        files::remove(&fresh)?;
        let mut lock = Self::wait(&fresh)?;
        fs::rename(&fresh, path).map_err(|why| files::trouble("replace", path, &why))?;
        path.clone_into(&mut lock.1);
        Ok(lock)
    }

    /// Whether it still is the file that stands there: nobody has stolen the lease.
    fn is_current(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let name = |file: &fs::Metadata| (file.dev(), file.ino());
            let (own, there) = (self.0.metadata(), fs::metadata(&self.1));
            own.is_ok_and(|own| there.is_ok_and(|there| name(&own) == name(&there)))
        }
        #[cfg(not(unix))]
        true
    }

    /// Waits for somebody who has it for a moment.
    fn wait(path: &Path) -> Result<Self> {
        for _ in 0..TRIES {
            if let Some(lock) = Self::take(path)? {
                return Ok(lock);
            }
            std::thread::sleep(TRY);
        }
        let what = format!("{} is locked by another process", path.display());
        Err(Error::new(ErrorKind::Busy, what).with_temporary(true))
    }

    /// None when somebody else has it.
    fn take(path: &Path) -> Result<Option<Self>> {
        let file = files::open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file, path.to_owned()))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(why)) => Err(files::trouble("lock", path, &why)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone leaves it locked while a child that is just being started has a copy of the file.
        let _ = self.0.unlock();
    }
}

/// What `lease.json` holds.
#[derive(Serialize, Deserialize)]
struct Holder {
    owner: Owner,
    token: u64,
}

impl DirectoryStore {
    /// Opens the store in this directory, and makes the directory where it is missing.
    ///
    /// # Errors
    /// One that names the directory and says why it cannot be made or is none.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        // A program that changes its working directory keeps its store.
        let root = std::path::absolute(directory)
            .map_err(|why| files::trouble("find", directory, &why))?;
        files::create_dir(&root)?;
        Ok(Self(Arc::new(Inner { root, slots: Mutex::default() })))
    }

    fn slot(&self, service: &ServiceName) -> Slot {
        let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(service.clone()).or_default())
    }

    /// Does work on the files of a service on a thread that may block, one piece at a time.
    ///
    /// The work keeps the slot: when its caller is dropped, the next piece still waits for it, and so never sees half of
    /// it; and the service stays locked until it is done.
    async fn work<T: Send + 'static>(
        &self,
        service: &ServiceName,
        work: impl FnOnce(&Path, &mut Option<Held>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let directory = self.0.root.join(service.as_str());
        let mut slot = self.slot(service).lock_owned().await;
        unblocked(move || work(&directory, &mut slot)).await
    }

    /// Does work that a valid lease is needed for.
    async fn work_under<T: Send + 'static>(
        &self,
        lease: &Lease,
        work: impl FnOnce(&Path) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shown = lease.clone();
        self.work(&lease.service, move |directory, slot| {
            held(slot, &shown)?;
            work(directory)
        })
        .await
    }
}

/// Runs what blocks apart from the tasks that must not. Paused time stands still meanwhile.
async fn unblocked<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(why) => Err(Error::new(
            ErrorKind::Other,
            "the store's work was cut off by the end of the runtime",
        )
        .with_source(why)),
    }
}

/// What is held under this lease, while it is valid.
fn held<'a>(slot: &'a mut Option<Held>, lease: &Lease) -> Result<&'a mut Held> {
    slot.as_mut()
        .filter(|held| held.token == lease.token && held.valid())
        .ok_or_else(|| checks::not_valid(lease))
}

/// Lets go of a lease when it has run out, so that others can have it though nobody asks here any more.
///
/// It keeps the slot only for moments: dropping the store's last handle ends the lease.
async fn watch(slot: Weak<AsyncMutex<Option<Held>>>, token: u64, mut until: Option<Instant>) {
    while let Some(end) = until {
        tokio::time::sleep_until(end).await;
        let Some(slot) = slot.upgrade() else { return };
        let mut slot = slot.lock_owned().await;
        match slot.as_ref() {
            Some(held) if held.token != token => return,
            Some(held) if held.valid() => until = held.until,
            _ => {
                *slot = None;
                return;
            }
        }
    }
}

/// Writes down who holds the lease from now on, and returns its token.
fn give(
    directory: &Path,
    lock: Lock,
    owner: Owner,
    ttl: Duration,
    slot: &mut Option<Held>,
    weak: Weak<AsyncMutex<Option<Held>>>,
) -> Result<u64> {
    let token = next_token(directory)?;
    let path = directory.join("lease.json");
    // Given out only after it is on disk: a token that was seen never comes back.
    files::replace(&directory.join("token"), format!("{token}\n").as_bytes())?;
    let holder = serde_json::to_vec(&Holder { owner, token })
        .map_err(|why| files::trouble("write", &path, &why.into()))?;
    files::replace(&path, &holder)?;
    let until = Instant::now().checked_add(ttl);
    *slot = Some(Held { token, until, lock });
    tokio::spawn(watch(weak, token, until));
    Ok(token)
}

fn history(directory: &Path) -> PathBuf {
    directory.join("history.jsonl")
}

fn journals(directory: &Path) -> PathBuf {
    directory.join("journal")
}

fn requests(directory: &Path, rollout: &RolloutId) -> PathBuf {
    let name = files::safe_name(rollout.as_str());
    directory.join("ask").join(format!("{name}.jsonl"))
}

fn blobs(directory: &Path) -> PathBuf {
    directory.join("blob")
}

fn journal_path(directory: &Path, journal: &Journal) -> PathBuf {
    match journal {
        Journal::History(_) => history(directory),
        Journal::Rollout(_, rollout) => {
            let name = files::safe_name(rollout.as_str());
            journals(directory).join(format!("{name}.jsonl"))
        }
    }
}

fn blob_path(directory: &Path, name: &str) -> PathBuf {
    blobs(directory).join(files::safe_name(name))
}

/// What `lease.json` says; none when it does not exist or cannot be read.
fn holder(directory: &Path) -> Result<Option<Holder>> {
    let bytes = files::read(&directory.join("lease.json"))?.unwrap_or_default();
    Ok(serde_json::from_slice(&bytes).ok())
}

fn refused(service: &ServiceName, directory: &Path) -> Error {
    match holder(directory) {
        Ok(Some(holder)) => checks::held(service, holder.owner),
        _ => {
            let path = directory.join("lease.json");
            checks::held(service, format!("a process that {} does not name", path.display()))
        }
    }
}

/// The token after all that were given. It is kept twice, so that damage to one file cannot make it go back.
fn next_token(directory: &Path) -> Result<u64> {
    let path = directory.join("token");
    let own = files::read(&path)?;
    let known =
        own.as_ref().and_then(|bytes| str::from_utf8(bytes).ok()?.trim().parse::<u64>().ok());
    let other = holder(directory)?.map(|holder| holder.token);
    let nothing_yet = own.is_none() && !directory.join("lease.json").exists();
    let last = known.max(other).or(nothing_yet.then_some(0));
    last.and_then(|last| last.checked_add(1)).ok_or_else(|| {
        Error::new(
            ErrorKind::Corrupt,
            format!("{} does not hold a token, nor does lease.json", path.display()),
        )
        .with_hint(
            "write a number into it that is greater than any token in the service's journals",
        )
    })
}

fn has_lines(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.len() > 0)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let listed = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    match listed {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|why| files::trouble("list", directory, &why)),
    }
}

#[async_trait]
impl Store for DirectoryStore {
    async fn acquire(&self, service: &ServiceName, owner: &Owner, ttl: Duration) -> Result<Lease> {
        let weak = Arc::downgrade(&self.slot(service));
        let (name, owner) = (service.clone(), owner.clone());
        self.work(service, move |directory, slot| {
            if slot.as_ref().is_some_and(Held::valid) {
                return Err(refused(&name, directory));
            }
            *slot = None;
            files::create_dir(directory)?;
            let _dealing = Lock::wait(&directory.join(".deal"))?;
            let Some(lock) = Lock::take(&directory.join("lock"))? else {
                return Err(refused(&name, directory));
            };
            let token = give(directory, lock, owner, ttl, slot, weak)?;
            Ok(Lease { service: name, token, ttl })
        })
        .await
    }

    async fn steal(&self, service: &ServiceName, owner: &Owner, ttl: Duration) -> Result<Lease> {
        let weak = Arc::downgrade(&self.slot(service));
        let (name, owner) = (service.clone(), owner.clone());
        self.work(service, move |directory, slot| {
            files::create_dir(directory)?;
            let _dealing = Lock::wait(&directory.join(".deal"))?;
            let lock = Lock::steal(&directory.join("lock"))?;
            let token = give(directory, lock, owner, ttl, slot, weak)?;
            Ok(Lease { service: name, token, ttl })
        })
        .await
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        let shown = lease.clone();
        self.work(&lease.service, move |_, slot| {
            held(slot, &shown)?.until = Instant::now().checked_add(shown.ttl);
            Ok(())
        })
        .await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let token = lease.token;
        self.work(&lease.service, move |directory, slot| {
            if slot.as_ref().is_none_or(|held| held.token != token || !held.lock.is_current()) {
                return Ok(());
            }
            // While it is still locked, for afterwards the file may be somebody else's.
            let removed = files::remove(&directory.join("lease.json"));
            *slot = None;
            removed
        })
        .await
    }

    async fn append(
        &self,
        lease: &Lease,
        journal: &Journal,
        expected: u64,
        lines: &[String],
    ) -> Result<u64> {
        checks::lines(lease, journal, lines)?;
        let (journal, batch) = (journal.clone(), lines.to_vec());
        self.work_under(lease, move |directory| {
            files::create_dir(&journals(directory))?;
            let path = journal_path(directory, &journal);
            lines::append(&path, &journal, expected, &batch)
        })
        .await
    }

    async fn read(&self, journal: &Journal, from: u64) -> Result<Vec<String>> {
        let wanted = journal.clone();
        self.work(journal.service(), move |directory, _| {
            lines::read(&journal_path(directory, &wanted), from)
        })
        .await
    }

    async fn put(&self, lease: &Lease, name: &str, bytes: &[u8]) -> Result<()> {
        let (name, bytes) = (name.to_owned(), bytes.to_vec());
        self.work_under(lease, move |directory| {
            files::create_dir(&blobs(directory))?;
            files::replace(&blob_path(directory, &name), &bytes)
        })
        .await
    }

    async fn get(&self, service: &ServiceName, name: &str) -> Result<Option<Vec<u8>>> {
        let name = name.to_owned();
        self.work(service, move |directory, _| files::read(&blob_path(directory, &name))).await
    }

    async fn post(&self, service: &ServiceName, rollout: &RolloutId, line: &str) -> Result<()> {
        checks::line(line)?;
        let path = requests(&self.0.root.join(service.as_str()), rollout);
        let line = [line.to_owned()];
        unblocked(move || {
            if let Some(directory) = path.parent() {
                files::create_dir(directory)?;
            }
            let _locked = Lock::wait(&path)?;
            // Behind a line that cannot be read nobody would find it.
            lines::read(&path, 0)?;
            lines::append_if(&path, &line, |_| Ok(())).map(|_| ())
        })
        .await
    }

    async fn posted(
        &self,
        service: &ServiceName,
        rollout: &RolloutId,
        from: u64,
    ) -> Result<Vec<String>> {
        let path = requests(&self.0.root.join(service.as_str()), rollout);
        loop {
            let path = path.clone();
            let news = unblocked(move || lines::read(&path, from)).await?;
            if !news.is_empty() {
                return Ok(news);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn remove(&self, lease: &Lease, rollout: &RolloutId) -> Result<()> {
        let journal = Journal::Rollout(lease.service.clone(), rollout.clone());
        let rollout = rollout.clone();
        self.work_under(lease, move |directory| {
            files::remove(&journal_path(directory, &journal))?;
            files::remove(&requests(directory, &rollout))?;
            files::remove(&blob_path(directory, rollout.as_str()))
        })
        .await
    }

    async fn services(&self) -> Result<Vec<ServiceName>> {
        let root = self.0.root.clone();
        unblocked(move || {
            let mut services = Vec::new();
            for directory in entries(&root)? {
                let name = directory.file_name().and_then(|name| name.to_str());
                let Some(Ok(service)) = name.map(ServiceName::new) else {
                    continue;
                };
                // One whose journals cannot be listed is told of all the same: what it lacks is said when it is read.
                let has_rollouts = || {
                    entries(&journals(&directory))
                        .map_or(true, |paths| paths.iter().any(|path| has_lines(path)))
                };
                if directory.is_dir() && (has_lines(&history(&directory)) || has_rollouts()) {
                    services.push(service);
                }
            }
            services.sort();
            Ok(services)
        })
        .await
    }
}

impl fmt::Debug for DirectoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirectoryStore").field(&self.0.root).finish()
    }
}
