//! An image of an Engine, as files: exported as a tar archive, its layers compressed as they come by.
//!
//! The archive is that of the Engine API's "Export an image": `manifest.json` names a configuration and layers, which
//! are `ID/layer.tar` or, from newer Engines, `blobs/sha256/DIGEST`; equal layers may be links. Only the layer that is
//! being read is in memory, a buffer at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use deploykit_core::{Digest, Error, ErrorKind, ImageRef, Publish, PublishEvent, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;
use serde::Deserialize;
use sha2::Digest as _;
use tokio::sync::mpsc;

use super::manifest::{
    Blob, Content, DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Descriptor, LONGEST, Manifest,
    Prepared,
};
use crate::engine::Engine;
use crate::registry::{missing, tagged};

/// How many parts of the archive may wait for the one that reads it.
const WAITING: usize = 8;

/// How often the reading is told, in bytes.
const TELL: u64 = 1 << 20;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Where a tar archive says that it is one.
const USTAR: (usize, &[u8]) = (257, b"ustar");

pub(super) async fn export(
    engine: &Engine,
    image: &ImageRef,
    publish: &Publish,
) -> Result<Prepared> {
    let name = match image.digest() {
        Some(_) => image.to_string(),
        None => tagged(image),
    };
    let doing = format!("export image {name}");
    let failed = |failure| engine.failed(&doing, failure);
    let found = engine.image(&name).await.map_err(failed)?;
    let id = found.and_then(|found| found.id).ok_or_else(|| missing(engine, &name))?;
    // By id: the name may come to mean something else meanwhile.
    let mut archive = std::pin::pin!(engine.save(&id));
    let (parts, waiting) = mpsc::channel(WAITING);
    let unpacking = tokio::task::spawn_blocking(move || {
        let archive = Archive { parts: waiting, part: Bytes::new() };
        Unpacked::read(archive).and_then(Unpacked::prepare)
    });
    let (mut done, mut told) = (0, 0);
    while let Some(part) = archive.next().await {
        let part = part.map_err(failed)?;
        done += part.len() as u64;
        if parts.send(part).await.is_err() {
            // It gave up; what it returns says why.
            break;
        }
        if done >= told + TELL {
            told = done;
            publish.report(PublishEvent::Reading { done });
        }
    }
    publish.report(PublishEvent::Reading { done });
    drop(parts);
    let broke = |error: tokio::task::JoinError| {
        Error::new(ErrorKind::Other, "reading the archive broke off").with_source(error)
    };
    let prepared = unpacking.await.map_err(broke).and_then(|prepared| prepared);
    prepared.map_err(|error| error.within(&doing))
}

/// The archive as it arrives. It ends early where the one who awaits it is gone.
struct Archive {
    parts: mpsc::Receiver<Bytes>,
    part: Bytes,
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.parts.blocking_recv() {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
        let count = self.part.len().min(buffer.len());
        let taken = self.part.split_to(count);
        buffer.get_mut(..count).unwrap_or_default().copy_from_slice(&taken);
        Ok(count)
    }
}

/// What an archive holds, by the paths in it.
struct Unpacked {
    spool: tempfile::TempDir,
    documents: BTreeMap<PathBuf, Vec<u8>>,
    layers: BTreeMap<PathBuf, Layer>,
    links: BTreeMap<PathBuf, PathBuf>,
}

struct Layer {
    blob: Blob,
    /// The digest of what it is uncompressed, where it came so.
    content: Option<Digest>,
}

/// An element of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: PathBuf,
    layers: Vec<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Config {
    rootfs: Rootfs,
}

#[derive(Debug, Deserialize)]
struct Rootfs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

impl Unpacked {
    fn read(archive: Archive) -> Result<Self> {
        let spool = tempfile::Builder::new().prefix("deploykit-publish-").tempdir();
        let spool = spool.map_err(|error| {
            Error::new(ErrorKind::Other, "no temporary directory can be made").with_source(error)
        })?;
        let (documents, layers, links) = Default::default();
        let mut unpacked = Self { spool, documents, layers, links };
        let broken = |error| {
            Error::new(ErrorKind::Other, "the archive cannot be unpacked").with_source(error)
        };
        let mut tar = tar::Archive::new(archive);
        for entry in tar.entries().map_err(broken)? {
            unpacked.take(&mut entry.map_err(broken)?).map_err(broken)?;
        }
        Ok(unpacked)
    }

    fn take(&mut self, entry: &mut tar::Entry<'_, Archive>) -> io::Result<()> {
        let path = normal(&entry.path()?);
        let kind = entry.header().entry_type();
        if kind.is_symlink() || kind.is_hard_link() {
            if let Some(target) = entry.link_name()? {
                let folder = path.parent().filter(|_| kind.is_symlink());
                let target = normal(&folder.unwrap_or(Path::new("")).join(target));
                self.links.insert(path, target);
            }
            return Ok(());
        }
        if !kind.is_file() {
            return Ok(());
        }
        let mut head = Vec::new();
        entry.take(512).read_to_end(&mut head)?;
        let is_tar = head.get(USTAR.0..).is_some_and(|rest| rest.starts_with(USTAR.1));
        let is_document = head.starts_with(b"{") && !is_tar;
        if path.ends_with("layer.tar") || (path.starts_with("blobs") && !is_document) {
            let layer = self.layer(&head, entry)?;
            self.layers.insert(path, layer);
        } else if entry.size() <= LONGEST {
            entry.read_to_end(&mut head)?;
            self.documents.insert(path, head);
        }
        Ok(())
    }

    /// Keeps a layer, compressed as it came or by us.
    fn layer(&self, head: &[u8], rest: &mut impl Read) -> io::Result<Layer> {
        let path = self.spool.path().join(format!("layer-{}", self.layers.len()));
        if head.starts_with(&ZSTD) {
            let text = "its layers are compressed with zstd, which Docker's manifests cannot say";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let mut source = Hashed::new(head.chain(rest));
        let mut target = Hashed::new(BufWriter::new(File::create(&path)?));
        let content = if head.starts_with(&GZIP) {
            io::copy(&mut source, &mut target)?;
            None
        } else {
            // No time and no name in its header, so equal layers come out equal.
            let mut encoder = GzEncoder::new(&mut target, Compression::default());
            io::copy(&mut source, &mut encoder)?;
            encoder.finish()?;
            Some(source.digest())
        };
        target.inner.flush()?;
        Ok(Layer { blob: Blob { size: target.count, digest: target.digest(), path }, content })
    }

    fn prepare(self) -> Result<Prepared> {
        let incomplete = |what: &str| Error::new(ErrorKind::Other, format!("the archive {what}"));
        let document = |path: &Path| {
            let found = self.documents.get(&normal(path));
            found.ok_or_else(|| incomplete(&format!("has no {}", path.display())))
        };
        let nonsense = |what: &str, error: serde_json::Error| {
            incomplete(&format!("has a {what} that cannot be read")).with_source(error)
        };
        let list: Vec<Saved> = serde_json::from_slice(document(Path::new("manifest.json"))?)
            .map_err(|error| nonsense("manifest.json", error))?;
        let [saved] = list.as_slice() else {
            return Err(incomplete(&format!("holds {} images, not one", list.len())));
        };
        let text = document(&saved.config)?;
        let config: Config =
            serde_json::from_slice(text).map_err(|error| nonsense("configuration", error))?;
        let contents = &config.rootfs.diff_ids;
        if contents.len() != saved.layers.len() {
            return Err(incomplete("has not as many layers as its configuration names"));
        }
        let mut layers = Vec::new();
        for (path, wanted) in saved.layers.iter().zip(contents) {
            let path = normal(path);
            let found = self.layers.get(self.links.get(&path).unwrap_or(&path));
            let layer = found.ok_or_else(|| incomplete(&format!("has no {}", path.display())))?;
            if layer.content.as_ref().is_some_and(|content| content != wanted) {
                return Err(incomplete(&format!("has a damaged layer {}", path.display())));
            }
            layers.push(layer.blob.clone());
        }
        let config = Blob {
            digest: Digest::of(text),
            size: text.len() as u64,
            path: self.spool.path().join("config"),
        };
        std::fs::write(&config.path, text).map_err(|error| {
            Error::new(ErrorKind::Other, "the configuration cannot be written").with_source(error)
        })?;
        let describe = |blob: &Blob, media_type: &str| Descriptor {
            media_type: media_type.into(),
            size: blob.size,
            digest: blob.digest.clone(),
        };
        let content = Content {
            schema_version: 2,
            media_type: Some(DOCKER_MANIFEST.into()),
            config: Some(describe(&config, DOCKER_CONFIG)),
            layers: Some(layers.iter().map(|layer| describe(layer, DOCKER_LAYER)).collect()),
            manifests: None,
        };
        let bytes = serde_json::to_vec(&content).map_err(|error| nonsense("manifest", error))?;
        let mut seen = BTreeSet::new();
        let mut blobs: Vec<_> = layers.into_iter().chain([config]).collect();
        blobs.retain(|blob| seen.insert(blob.digest.clone()));
        let (root, _) = Manifest::read(bytes.into())?;
        Ok(Prepared { blobs, children: Vec::new(), root, spool: Some(self.spool) })
    }
}

/// Counts and hashes what goes through.
struct Hashed<T> {
    inner: T,
    hash: sha2::Sha256,
    count: u64,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Self {
        Self { inner, hash: sha2::Sha256::new(), count: 0 }
    }

    fn digest(&self) -> Digest {
        <[u8; 32]>::from(self.hash.clone().finalize()).into()
    }

    fn saw(&mut self, bytes: Option<&[u8]>) {
        let bytes = bytes.unwrap_or_default();
        self.hash.update(bytes);
        self.count += bytes.len() as u64;
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.saw(buffer.get(..count));
        Ok(count)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.saw(buffer.get(..count));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A path of the archive without what goes round about.
fn normal(path: &Path) -> PathBuf {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    parts.into_iter().collect()
}
