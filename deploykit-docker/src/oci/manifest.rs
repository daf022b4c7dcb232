//! What an image consists of, ready to be published.

use std::path::PathBuf;

use bytes::Bytes;
use deploykit_core::{Digest, Error, Result};
use serde::{Deserialize, Serialize};

/// The types of the image specification and of Docker's schema 2; both are in use, and a registry keeps either.
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(super) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(super) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(super) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(super) const ALL: [&str; 4] = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX];

/// The longest manifest that registries have to take (distribution specification, "Pushing Manifests").
pub(super) const LONGEST: u64 = 4 << 20;

/// An image as files and manifests.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Each different blob once.
    pub(super) blobs: Vec<Blob>,
    /// Whatever a manifest names comes before it, so the last one is the image.
    pub(super) children: Vec<Manifest>,
    pub(super) root: Manifest,
    /// Temporary files that go with this.
    pub(super) spool: Option<tempfile::TempDir>,
}

/// A layer or a configuration, in a file.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) path: PathBuf,
}

/// A manifest or an index, byte for byte.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

impl Manifest {
    /// # Errors
    /// `Invalid` for what is no manifest of a known type.
    pub(super) fn read(bytes: Bytes) -> Result<(Self, Content)> {
        let digest = Digest::of(&bytes);
        let wrong = |why: &str| Error::invalid(format!("manifest {}: {why}", digest.short()));
        let content: Content = serde_json::from_slice(&bytes)
            .map_err(|error| wrong("it cannot be read").with_source(error))?;
        // The image specification lets the type be left out.
        let implied = if content.manifests.is_some() { OCI_INDEX } else { OCI_MANIFEST };
        let media_type = content.media_type.clone().unwrap_or_else(|| implied.into());
        if !ALL.contains(&media_type.as_str()) {
            return Err(wrong(&format!("its type {media_type} is not known")));
        }
        Ok((Self { digest, media_type, bytes }, content))
    }
}

/// As far as it concerns publishing: what it names.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Content {
    pub(super) schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) media_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) config: Option<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) layers: Option<Vec<Descriptor>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) manifests: Option<Vec<Descriptor>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) size: u64,
    pub(super) digest: Digest,
}
