//! The configuration file on disk, and the lock around everything that changes it or HAProxy.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind as IoKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use deploykit_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};

use super::config;
use super::model::Model;
use super::runtime::POLL;

/// A change takes well under a second, a start with its container a few.
const LOCK: Duration = Duration::from_secs(30);

/// Where the configuration file is.
#[derive(Clone, Debug)]
pub(super) struct Store {
    file: PathBuf,
}

/// The right to change the file and HAProxy; ends when it is dropped, or with the process.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    store: &'a Store,
    _lock: File,
}

impl Store {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.file.as_os_str().to_owned();
        name.push(ending);
        name.into()
    }

    /// Waits until nobody else, in this process or another, is changing HAProxy.
    ///
    /// # Errors
    /// `Busy` after 30 s.
    pub(super) async fn lock(&self) -> Result<Locked<'_>> {
        let path = self.beside(".lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = opened.map_err(|error| failed("open", &path, error))?;
        let deadline = Instant::now() + LOCK;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Locked { store: self, _lock: lock }),
                Err(TryLockError::Error(error)) => return Err(failed("lock", &path, error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    let what =
                        format!("HAProxy is being changed by another process: {}", path.display());
                    return Err(Error::new(ErrorKind::Busy, what)
                        .with_hint("find who holds that lock, see lsof")
                        .with_temporary(true));
                }
                Err(TryLockError::WouldBlock) => sleep(POLL).await,
            }
        }
    }

    /// The wanted state; an empty one where there is no file.
    pub(super) fn load(&self) -> Result<Model> {
        match fs::read_to_string(&self.file) {
            Ok(text) => config::parse(&text, &self.file),
            Err(error) if error.kind() == IoKind::NotFound => Ok(Model::default()),
            Err(error) => Err(failed("read", &self.file, error)),
        }
    }
}

impl Locked<'_> {
    pub(super) fn load(&self) -> Result<Model> {
        self.store.load()
    }

    /// Writes the file that a save would, under another name, which is returned: for HAProxy to look at first.
    pub(super) fn draft(&self, model: &Model) -> Result<PathBuf> {
        let path = self.store.beside(".new");
        write(&path, &config::render(model)?).map_err(|error| {
            // On a full disk every byte counts.
            let _ = fs::remove_file(&path);
            failed("write", &path, error)
        })?;
        Ok(path)
    }

    /// Replaces the file in one piece, on the disk when this returns; a file that is equal already is left alone.
    pub(super) fn save(&self, model: &Model) -> Result<()> {
        let path = self.store.file();
        if fs::read_to_string(path)
            .is_ok_and(|text| config::render(model).is_ok_and(|new| new == text))
        {
            return Ok(());
        }
        let draft = self.draft(model)?;
        let replace = || {
            fs::rename(&draft, path)?;
            path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        };
        replace().map_err(|error| failed("write", path, error))
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

pub(super) fn failed(doing: &str, path: &Path, error: std::io::Error) -> Error {
    let (kind, hint) = match error.kind() {
        IoKind::PermissionDenied | IoKind::ReadOnlyFilesystem => {
            (ErrorKind::Denied, "run as the user that owns HAProxy's state directory")
        }
        IoKind::NotFound => {
            (ErrorKind::NotFound, "start HAProxy again: that makes what is missing")
        }
        IoKind::StorageFull | IoKind::QuotaExceeded => (ErrorKind::Unavailable, "free space there"),
        _ => (ErrorKind::Other, "look at the disk and at HAProxy's state directory"),
    };
    let what = format!("HAProxy: cannot {doing} {}", path.display());
    Error::new(kind, what).with_hint(hint).with_source(error)
}
