//! A directory in the OCI image layout (image specification, "OCI Image Layout Specification").

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use deploykit_core::{Digest, Error, ErrorKind, Result};
use serde::Deserialize;

use super::manifest::{Blob, Descriptor, LONGEST, Manifest, Prepared};

/// How deep an index may name another; the specification's own examples stop at two.
const DEEPEST: usize = 4;

/// Where a descriptor says which name it has.
const NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// Reads what the one entry of the layout's index names. The blobs stay where they are.
pub(super) async fn read(directory: PathBuf) -> Result<Prepared> {
    let within = format!("source: layout {}", directory.display());
    let reading = tokio::task::spawn_blocking(move || Layout::new(directory).prepare());
    let failed = |error: tokio::task::JoinError| {
        Error::new(ErrorKind::Other, "reading it broke off").with_source(error)
    };
    let prepared = reading.await.map_err(failed).and_then(|prepared| prepared);
    prepared.map_err(|error| error.within(within))
}

struct Layout {
    directory: PathBuf,
    blobs: Vec<Blob>,
    manifests: Vec<Manifest>,
    seen: BTreeSet<Digest>,
}

impl Layout {
    fn new(directory: PathBuf) -> Self {
        Self { directory, blobs: Vec::new(), manifests: Vec::new(), seen: BTreeSet::new() }
    }

    fn prepare(mut self) -> Result<Prepared> {
        let index = self.directory.join("index.json");
        let text = load(&index)?;
        let index: Index = serde_json::from_slice(&text)
            .map_err(|error| Error::invalid("index.json cannot be read").with_source(error))?;
        let [entry] = index.manifests.as_slice() else {
            let name = |entry: &Entry| {
                let name = entry.annotations.get(NAME).cloned();
                name.unwrap_or_else(|| entry.descriptor.digest.short().to_owned())
            };
            let names: Vec<_> = index.manifests.iter().map(name).collect();
            let text = format!("it holds {} images, not one: {}", names.len(), names.join(", "));
            return Err(Error::invalid(text)
                .with_hint("copy the one that is meant into a layout of its own"));
        };
        self.manifest(&entry.descriptor, 0)?;
        let root = self.manifests.pop();
        let root = root.ok_or_else(|| Error::invalid("it holds nothing"))?;
        Ok(Prepared { blobs: self.blobs, children: self.manifests, root, spool: None })
    }

    /// Takes what it names first, then the manifest itself.
    fn manifest(&mut self, descriptor: &Descriptor, depth: usize) -> Result<()> {
        let digest = &descriptor.digest;
        if !self.seen.insert(digest.clone()) {
            return Ok(());
        }
        if depth > DEEPEST {
            return Err(Error::invalid("its indexes name each other too deeply"));
        }
        let bytes = load(&self.path(digest))?;
        let (manifest, content) = Manifest::read(bytes.into())?;
        if manifest.digest != *digest {
            let is = &manifest.digest;
            return Err(Error::invalid(format!("blob {digest} is damaged: it has digest {is}")));
        }
        for child in content.manifests.iter().flatten() {
            self.manifest(child, depth + 1)?;
        }
        for blob in content.config.iter().chain(content.layers.iter().flatten()) {
            self.blob(blob)?;
        }
        // The descriptor's type is the one that counts where both say one.
        self.manifests.push(Manifest { media_type: descriptor.media_type.clone(), ..manifest });
        Ok(())
    }

    fn blob(&mut self, descriptor: &Descriptor) -> Result<()> {
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        if !self.seen.insert(digest.clone()) {
            return Ok(());
        }
        let path = self.path(&digest);
        let is = fs::metadata(&path).map_err(|error| unreadable(&path, error))?.len();
        if is != size {
            return Err(Error::invalid(format!(
                "blob {digest} is damaged: it has {is} bytes, its manifest says {size}"
            )));
        }
        self.blobs.push(Blob { digest, size, path });
        Ok(())
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.hex())
    }
}

fn load(path: &Path) -> Result<Vec<u8>> {
    let found = fs::metadata(path).map_err(|error| unreadable(path, error))?;
    // Reading a pipe or a device may never end.
    if !found.is_file() {
        return Err(Error::invalid(format!("{} is no file", path.display())));
    }
    if found.len() > LONGEST {
        return Err(Error::invalid(format!("{} is too large for a manifest", path.display())));
    }
    fs::read(path).map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Other,
    };
    Error::new(kind, format!("{} cannot be read", path.display()))
        .with_hint("make the layout anew, such as with `skopeo copy` or `docker buildx build --output type=oci,tar=false`")
        .with_source(error)
}
