//! A journal as a file of JSON lines.
//!
//! A line that ends in a bare line feed ends a batch; one that ends in carriage return and line feed is followed by more
//! of the same batch. What comes after the last bare line feed was never acknowledged: a reader skips it, and the next
//! append cuts it off. So a batch is there whole or not at all, and any tool for JSON lines still reads the file.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use super::{Journal, checks, files};
use crate::error::{Error, ErrorKind, Result};

/// The lines of whole batches, and how many bytes of the file they take.
fn committed(bytes: &[u8]) -> (Vec<&[u8]>, usize) {
    let mut lines = Vec::new();
    let (mut count, mut len, mut at) = (0, 0, 0);
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = piece.strip_suffix(b"\n") else {
            break;
        };
        at += piece.len();
        if let Some(line) = line.strip_suffix(b"\r") {
            lines.push(line);
        } else {
            lines.push(line);
            (count, len) = (lines.len(), at);
        }
    }
    lines.truncate(count);
    (lines, len)
}

/// The lines from number `from` on.
pub(crate) fn read(path: &Path, from: u64) -> Result<Vec<String>> {
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let bytes = files::read(path)?.unwrap_or_default();
    let (lines, _) = committed(&bytes);
    let numbered = lines.into_iter().enumerate().skip(from);
    numbered
        .map(|(n, line)| {
            let corrupt = |why: String| {
                Error::new(
                    ErrorKind::Corrupt,
                    format!("{} line {} cannot be read: {why}", path.display(), n + 1),
                )
                .with_hint("restore the file from a copy; without one, look at what runs, move the file away and deploy anew")
            };
            let text = str::from_utf8(line).map_err(|why| corrupt(why.to_string()))?;
            checks::json(text).map_err(|why| corrupt(why.to_string()))?;
            Ok(text.to_owned())
        })
        .collect()
}

/// Appends one batch to a journal of this length. One writer to a file at a time.
pub(crate) fn append(
    path: &Path,
    journal: &Journal,
    expected: u64,
    lines: &[String],
) -> Result<u64> {
    append_if(path, lines, |found| checks::length(journal, expected, found))
}

/// Appends one batch, if the number of lines that are there is right. One writer to a file at a time.
pub(crate) fn append_if(
    path: &Path,
    lines: &[String],
    is_right: impl FnOnce(u64) -> Result<()>,
) -> Result<u64> {
    let bytes = files::read(path)?.unwrap_or_default();
    let (found, len) = committed(&bytes);
    let found = found.len() as u64;
    let len = len as u64;
    is_right(found)?;
    if lines.is_empty() {
        return Ok(found);
    }
    let mut batch = lines.join("\r\n");
    batch.push('\n');

    let mut file = files::open(path)?;
    if len == 0 {
        files::sync_parent(path)?;
    }
    let written = file
        .set_len(len)
        .and_then(|()| file.seek(SeekFrom::Start(len)))
        .and_then(|_| file.write_all(batch.as_bytes()))
        .and_then(|()| file.sync_data());
    if let Err(why) = written {
        // As far as that is still possible; what stays has no bare line feed, or the caller finds it when it reads.
        let _ = file.set_len(len);
        return Err(files::trouble("append to", path, &why));
    }
    Ok(found + lines.len() as u64)
}
