//! The configuration file on disk, and the lock around everything that changes it or HAProxy.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind as IoKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use deploykit_core::{Error, ErrorKind, Result, ServiceName};
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, sleep};

use super::certificate::Pem;
use super::config;
use super::model::Model;
use super::runtime::POLL;

/// How long a change waits for others, which takes them well under a second: less than a deployer gives a call, so that it gets to
/// know who is in its way.
pub(super) const CHANGE: Duration = Duration::from_secs(10);
/// How long a start waits: others that start have a container to make.
pub(super) const START: Duration = Duration::from_secs(30);

/// Where the configuration file is.
#[derive(Clone, Debug)]
pub(super) struct Store {
    file: PathBuf,
    /// The directory of the file as HAProxy sees it.
    seen: PathBuf,
}

/// The right to change the file and HAProxy; ends when it is dropped, or with the process.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    store: &'a Store,
    _lock: File,
}

impl Store {
    pub(super) fn new(file: PathBuf, seen: impl Into<PathBuf>) -> Self {
        Self { file, seen: seen.into() }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn fingerprint(&self, model: &Model) -> String {
        config::fingerprint(model, &self.seen)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.file.as_os_str().to_owned();
        name.push(ending);
        name.into()
    }

    fn dir(&self) -> &Path {
        // An absolute path to a file has one.
        self.file.parent().unwrap_or(Path::new("/"))
    }

    /// Waits until nobody else, in this process or another, is changing HAProxy.
    ///
    /// # Errors
    /// `Busy` after `at_most`.
    pub(super) async fn lock(&self, at_most: Duration) -> Result<Locked<'_>> {
        let path = self.beside(".lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = opened.map_err(|error| failed("open", &path, error))?;
        let deadline = Instant::now() + at_most;
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

    /// The wanted state.
    ///
    /// # Errors
    /// `NotFound` where there is no file: what HAProxy has is not forgotten because somebody removed it.
    pub(super) fn load(&self) -> Result<Model> {
        let text = fs::read_to_string(&self.file);
        config::parse(&text.map_err(|error| failed("read", &self.file, error))?, &self.file)
    }
}

impl Locked<'_> {
    pub(super) fn load(&self) -> Result<Model> {
        self.store.load()
    }

    /// Makes the file, without services, where there is none.
    pub(super) fn begin(&self) -> Result<()> {
        let file = self.store.file();
        match file.try_exists() {
            Ok(true) => Ok(()),
            Ok(false) => self.save(&Model::default()),
            Err(error) => Err(failed("look for", file, error)),
        }
    }

    /// Copies a certificate and its key to where HAProxy reads them, for nobody else to read, and returns the file's name.
    /// Each content has a name of its own: what HAProxy runs with is not touched.
    pub(super) fn keep(&self, service: &ServiceName, pem: &Pem) -> Result<String> {
        let path = self.store.beside(&format!(".{service}.{}.pem", pem.hash));
        let draft = self.store.beside(".pem.new");
        let write = || {
            // What a crash left may have another mode.
            remove(&draft)?;
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(pem.text.expose_secret().as_bytes())?;
            file.sync_all()?;
            // HAProxy runs as the directory's owner where it is ours; elsewhere it says itself what it cannot read.
            let owner = fs::metadata(self.store.dir())?.uid();
            chown(&draft, Some(owner), None).ok();
            fs::rename(&draft, &path)
        };
        write().map_err(|error| {
            // Half a key is a secret, too.
            let _ = fs::remove_file(&draft);
            failed("write", &path, error)
        })?;
        Ok(path.file_name().unwrap_or_default().to_string_lossy().into_owned())
    }

    /// Removes the copies of certificates that the file does not name.
    pub(super) fn tidy(&self) -> Result<()> {
        let model = self.load()?;
        let wanted: Vec<_> =
            model.services.values().filter_map(|s| s.certificate.as_ref()).collect();
        let (dir, prefix) = (self.store.dir(), self.store.beside("."));
        let prefix = prefix.file_name().unwrap_or_default().to_string_lossy();
        let sweep = || {
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let is_ours = name.starts_with(&*prefix) && name.ends_with(".pem");
                if is_ours && !wanted.contains(&&name) {
                    remove(&entry.path())?;
                }
            }
            Ok(())
        };
        sweep().map_err(|error| failed("remove old certificates from", dir, error))
    }

    /// Writes the file that a save would, under another name, which is returned: for HAProxy to look at first.
    pub(super) fn draft(&self, model: &Model) -> Result<PathBuf> {
        let path = self.store.beside(".new");
        write(&path, &config::render(model, &self.store.seen)?).map_err(|error| {
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
            .is_ok_and(|text| config::render(model, &self.store.seen).is_ok_and(|new| new == text))
        {
            return Ok(());
        }
        let draft = self.draft(model)?;
        let replace = || {
            fs::rename(&draft, path)?;
            File::open(self.store.dir())?.sync_all()
        };
        replace().map_err(|error| failed("write", path, error))
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// One that is not there is fine.
fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != IoKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn failed(doing: &str, path: &Path, error: std::io::Error) -> Error {
    let (kind, hint) = match error.kind() {
        IoKind::PermissionDenied | IoKind::ReadOnlyFilesystem => {
            (ErrorKind::Denied, "run as the user that owns HAProxy's state directory")
        }
        IoKind::NotFound => (
            ErrorKind::NotFound,
            "restore it from a backup; or start HAProxy again, which makes an empty one, and add the services",
        ),
        IoKind::StorageFull | IoKind::QuotaExceeded => (ErrorKind::Unavailable, "free space there"),
        _ => (ErrorKind::Other, "look at the disk and at HAProxy's state directory"),
    };
    let what = format!("HAProxy: cannot {doing} {}", path.display());
    Error::new(kind, what).with_hint(hint).with_source(error)
}
