//! Files that survive a power cut, that only their owner reads, and errors that say which one it was.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::image::Digest;

/// The longest file name that is made; file systems allow 255 bytes, and endings are added.
const LONGEST_NAME: usize = 200;

/// The file into which [`replace`] writes first. No [`safe_name`] begins with a dot.
const UNFINISHED: &str = ".new";

/// Makes a directory and those above it, where they are missing.
pub(crate) fn create_dir(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|why| trouble("create directory", path, &why))?;
    sync_parent(path)
}

/// Opens a file for writing, making it where it is missing.
pub(crate) fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|why| trouble("open", path, &why))
}

/// What a file holds; none when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(trouble("read", path, &why)),
    }
}

/// Replaces a whole file: after a power cut it holds the old bytes or the new ones. One writer to a directory at a time.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let unfinished = path.with_file_name(UNFINISHED);
    let mut file = open(&unfinished)?;
    let written = file
        .set_len(0)
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&unfinished, path));
    if let Err(why) = written {
        // On a full disk every byte counts.
        let _ = fs::remove_file(&unfinished);
        return Err(trouble("write", path, &why));
    }
    sync_parent(path)
}

/// Removes a file. One that is not there is success.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(why) => Err(trouble("remove", path, &why)),
    }
}

/// Makes what was created, renamed or removed in the directory above `path` last.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    // Elsewhere a directory cannot be opened, and its entries are made to last by the file system.
    #[cfg(unix)]
    if let Some(parent) = path.parent() {
        File::open(parent)
            .and_then(|dir| dir.sync_all())
            .map_err(|why| trouble("sync directory", parent, &why))?;
    }
    Ok(())
}

/// A file name for any text: different texts get different names, also where a file system ignores case.
///
/// Everything but `a-z`, `0-9`, `-`, `_` and inner dots becomes `%` and two hexadecimal digits; a long name ends in a
/// digest instead of its rest, after `%%`.
pub(crate) fn safe_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for (n, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if n > 0 => name.push('.'),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    if name.is_empty() {
        return "%".to_owned();
    }
    if name.len() > LONGEST_NAME {
        let digest = Digest::of(text.as_bytes()).to_string();
        let digest = digest.rsplit(':').next().unwrap_or_default();
        name = name.chars().take(LONGEST_NAME / 2).collect();
        name.push_str("%%");
        name.push_str(digest);
    }
    name
}

/// What was tried with which file, why it failed, and what to do.
pub(crate) fn trouble(tried: &str, path: &Path, why: &io::Error) -> Error {
    use io::ErrorKind as Io;
    let (kind, hint) = match why.kind() {
        Io::PermissionDenied => (
            ErrorKind::Denied,
            "let the user that runs this read and write there, or give the store another directory",
        ),
        Io::ReadOnlyFilesystem => {
            (ErrorKind::Denied, "give the store a directory that can be written")
        }
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => {
            (ErrorKind::Unavailable, "free space there, then recover the rollout")
        }
        Io::NotADirectory | Io::IsADirectory | Io::AlreadyExists => (
            ErrorKind::Invalid,
            "something else has this name: move it away, or give the store another directory",
        ),
        Io::Unsupported => (
            ErrorKind::Unsupported,
            "give the store a directory on a local file system that has file locks",
        ),
        _ => (ErrorKind::Other, "look at the disk and the directory of the store"),
    };
    Error::new(kind, format!("cannot {tried} {}: {why}", path.display())).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_with_the_path_and_what_to_do_and_may_be_tried_again() {
        let why = io::Error::from(io::ErrorKind::StorageFull);
        let error = trouble("append to", Path::new("store/web/history.jsonl"), &why);
        let text = error.to_string();
        assert!(text.contains("store/web/history.jsonl"), "{text}");
        assert!(text.contains("free space"), "{text}");
        assert!(error.is_temporary());
    }

    #[test]
    fn different_texts_get_different_names_that_stay_within_their_directory() {
        let long = "x".repeat(5_000);
        let longer = format!("{long}x");
        let texts =
            ["", "%", ".", "..", "a/b", "a%2fb", "a:b", "A", "a", "a.b", ".a", "é", &long, &longer];
        let names: std::collections::BTreeSet<_> =
            texts.iter().map(|text| safe_name(text).to_lowercase()).collect();
        assert_eq!(names.len(), texts.len(), "{names:?}");
        for name in names {
            assert!(!name.starts_with('.') && !name.contains(['/', '\\', ':']), "{name}");
            assert!(name.len() <= LONGEST_NAME, "{name}");
        }
    }
}
