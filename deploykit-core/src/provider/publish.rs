//! What is published, where to, and how far that has come.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::{Digest, ImageRef};

/// An image to be published: what, into which repository, under which tags.
///
/// ```
/// use deploykit_core::Publish;
///
/// let publish = Publish::image("web:build-17", "registry.example.org/team/web", ["1.4", "latest"])?
///     .on_progress(|event| eprintln!("{event}"));
/// assert_eq!(publish.tags(), ["1.4", "latest"]);
/// # Ok::<(), deploykit_core::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Publish {
    source: ImageSource,
    repository: ImageRef,
    tags: Vec<String>,
    mounts: Vec<ImageRef>,
    progress: Option<Observer>,
}

type Observer = Arc<dyn Fn(&PublishEvent) + Send + Sync>;

/// Where an image to be published comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageSource {
    /// An image that the backend's engine holds: a name or an image id.
    Engine(ImageRef),
    /// A directory in the OCI image layout with one image or one multi-platform index.
    Layout(PathBuf),
}

impl Publish {
    /// Publishes an image of the engine, by name or id, into `repository` under each of `tags`.
    ///
    /// # Errors
    /// `Invalid` for an image, a repository or a tag that cannot be read, for a repository that carries a tag or a
    /// digest, and for no tags at all; each names the field.
    pub fn image(
        image: &str,
        repository: &str,
        tags: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self> {
        let image = ImageRef::parse(image).map_err(|error| error.within("source"))?;
        Self::new(ImageSource::Engine(image), repository, tags)
    }

    /// Publishes what a directory in the OCI image layout holds, byte for byte: one image, or one index with all its
    /// platforms.
    ///
    /// # Errors
    /// As [`image`](Self::image). Whether the directory can be read shows when it is published.
    pub fn layout(
        directory: impl Into<PathBuf>,
        repository: &str,
        tags: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self> {
        Self::new(ImageSource::Layout(directory.into()), repository, tags)
    }

    fn new(
        source: ImageSource,
        repository: &str,
        tags: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self> {
        let repository = bare(repository).map_err(|error| error.within("repository"))?;
        let mut checked = Vec::new();
        for tag in tags {
            let tag = tag.into();
            repository.with_tag(&tag).map_err(|error| error.within("tags"))?;
            if !checked.contains(&tag) {
                checked.push(tag);
            }
        }
        if checked.is_empty() {
            return Err(Error::invalid(format!("tags: none is given for repository {repository}"))
                .with_hint("give at least one; the registry keeps what a tag names"));
        }
        Ok(Self { source, repository, tags: checked, mounts: Vec::new(), progress: None })
    }

    /// Names another repository of the same registry, whose blobs are mounted instead of uploaded where it has them:
    /// that of the base image, or the one that the previous environment pulls from.
    ///
    /// # Errors
    /// `Invalid` for a repository that cannot be read, that carries a tag or digest, or that is of another registry.
    pub fn mounts_from(mut self, repository: &str) -> Result<Self> {
        let other = bare(repository).map_err(|error| error.within("mounts"))?;
        if other.registry() != self.repository.registry() {
            let here = &self.repository;
            return Err(Error::invalid(format!(
                "mounts: {other} is not in the registry of {here}"
            ))
            .with_hint("blobs are mounted within one registry only; leave it out"));
        }
        self.mounts.push(other);
        Ok(self)
    }

    /// Calls `observer` with each step. It is called from within the publishing, so it should be quick.
    pub fn on_progress(mut self, observer: impl Fn(&PublishEvent) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(observer));
        self
    }

    /// Where the image comes from.
    pub fn source(&self) -> &ImageSource {
        &self.source
    }

    /// The repository that it goes to, without tag and digest.
    pub fn repository(&self) -> &ImageRef {
        &self.repository
    }

    /// The tags that it gets; at least one.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Other repositories of the same registry that may have some of its blobs.
    pub fn mounts(&self) -> &[ImageRef] {
        &self.mounts
    }

    /// The repository with the first tag: how people name what was published.
    pub fn name(&self) -> ImageRef {
        let first = self.tags.first().and_then(|tag| self.repository.with_tag(tag).ok());
        first.unwrap_or_else(|| self.repository.clone())
    }

    /// Tells the observer; for backends.
    pub fn report(&self, event: PublishEvent) {
        tracing::trace!(repository = %self.repository, %event, "publishing");
        if let Some(observer) = &self.progress {
            observer(&event);
        }
    }
}

fn bare(repository: &str) -> Result<ImageRef> {
    let parsed = ImageRef::parse(repository)?;
    let carried = match (parsed.digest(), parsed.tag()) {
        (Some(_), _) => "a digest, which only what is published can tell",
        (None, Some(_)) => "a tag",
        (None, None) => return Ok(parsed),
    };
    Err(Error::invalid(format!("{repository:?} carries {carried}"))
        .with_hint("write registry/repository here, and give the tags apart"))
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(image) => write!(f, "image {image}"),
            Self::Layout(directory) => write!(f, "layout {}", directory.display()),
        }
    }
}

/// `image web:build-17 as registry.example.org/team/web:1.4,latest`
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {}:{}", self.source, self.repository, self.tags.join(","))
    }
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publish({self})")
    }
}

/// A step of publishing. Several blobs are on their way at once, so the events of different blobs mix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PublishEvent {
    /// The source is being read; what it comes to is not known yet.
    Reading {
        /// Bytes so far.
        done: u64,
    },
    /// The source has been read. Each of its blobs ends as skipped, mounted or uploaded.
    Found {
        /// How many different blobs there are.
        blobs: usize,
        /// Their bytes in all.
        bytes: u64,
    },
    /// The repository has the blob already.
    Skipped {
        /// Which.
        blob: Digest,
        /// Its bytes.
        total: u64,
    },
    /// The registry took the blob over from another of its repositories.
    Mounted {
        /// Which.
        blob: Digest,
        /// Its bytes.
        total: u64,
        /// The other repository.
        from: ImageRef,
    },
    /// A part of the blob is on its way. After a failure the bytes begin again at 0.
    Uploading {
        /// Which.
        blob: Digest,
        /// Bytes so far.
        done: u64,
        /// Its bytes.
        total: u64,
    },
    /// The registry has the whole blob.
    Uploaded {
        /// Which.
        blob: Digest,
        /// Its bytes.
        total: u64,
    },
    /// Something failed that may pass, and is tried again.
    Retrying {
        /// What failed, and why.
        why: String,
    },
    /// The tag names the image, and was read back.
    Tagged {
        /// Which tag.
        tag: String,
        /// What it names.
        digest: Digest,
        /// Whether it named something else before, or nothing.
        moved: bool,
    },
}

impl fmt::Display for PublishEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reading { done } => write!(f, "{done} bytes read"),
            Self::Found { blobs, bytes } => write!(f, "{blobs} blobs of {bytes} bytes"),
            Self::Skipped { blob, .. } => write!(f, "{}: is there already", blob.short()),
            Self::Mounted { blob, from, .. } => write!(f, "{}: mounted from {from}", blob.short()),
            Self::Uploading { blob, done, total } => {
                write!(f, "{}: {done} of {total} bytes", blob.short())
            }
            Self::Uploaded { blob, total } => {
                write!(f, "{}: uploaded, {total} bytes", blob.short())
            }
            Self::Retrying { why } => write!(f, "once more: {why}"),
            Self::Tagged { tag, digest, moved: true } => write!(f, "{tag} is {}", digest.short()),
            Self::Tagged { tag, digest, moved: false } => {
                write!(f, "{tag} is {} already", digest.short())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_is_wrong_with_a_publication_is_said_by_field() {
        let one = ["1"];
        for (field, result) in [
            ("source: ", Publish::image("We b", "r.example.org/web", one)),
            ("repository: ", Publish::image("web", "r.example.org/We b", one)),
            ("repository: ", Publish::image("web", "r.example.org/web:1", one)),
            (
                "repository: ",
                Publish::image("web", &format!("r.example.org/web@{}", Digest::of(b"x")), one),
            ),
            ("repository: ", Publish::layout("dir", Digest::of(b"x").as_str(), one)),
            ("tags: ", Publish::image("web", "r.example.org/web", ["a b"])),
            ("tags: ", Publish::image("web", "r.example.org/web", [""; 0])),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().starts_with(field), "{error}");
            assert!(error.hint().is_some(), "{error}");
        }
    }

    #[test]
    fn blobs_are_mounted_within_one_registry_only() {
        let publish = || Publish::image("web", "r.example.org/team/web", ["1"]).unwrap();
        assert!(publish().mounts_from("r.example.org/base").is_ok());
        let error = publish().mounts_from("other.example.org/base").unwrap_err();
        assert!(error.message().starts_with("mounts: "), "{error}");
    }

    #[test]
    fn events_are_data_with_a_name() {
        let event = PublishEvent::Uploaded { blob: Digest::of(b"x"), total: 7 };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["event"], "uploaded");
        assert_eq!(serde_json::from_value::<PublishEvent>(json).unwrap(), event);
    }
}
