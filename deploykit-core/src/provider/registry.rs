use std::fmt;

use async_trait::async_trait;

use super::Publish;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{ImageRef, PinnedImage};

/// Knows what images mean, and takes new ones.
///
/// A backend that can only look things up implements [`resolve`](Self::resolve) alone.
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// What `image` means now.
    ///
    /// **Contract.** A reference that carries a digest is returned with that digest, without asking whether it still
    /// exists. A tag (none is `latest`) is looked up. Nothing is pulled or changed.
    ///
    /// **Errors.** `NotFound` for an unknown repository or tag; `Denied`, saying where the credentials came from;
    /// `Unavailable`, naming the registry.
    async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage>;

    /// Puts an image into a repository under all of its tags, and says what it is.
    ///
    /// **Contract.** Each blob is uploaded once, however many tags there are, and not at all where the repository has
    /// it. The tags are set last, one after the other, and read back: what is returned names what a pull gives, byte
    /// for byte, and can be deployed. Temporary failures are tried again a few times.
    ///
    /// **Idempotency.** What is there already is skipped; the second call uploads nothing.
    ///
    /// **Cancellation.** A dropped call leaves blobs that no tag names, which the registry's garbage collection
    /// removes, and tags that name either what they did before or the whole image.
    ///
    /// **Errors.** `NotFound` for a source that is not there, `Denied`, saying where the credentials came from;
    /// `Unavailable` and `Timeout`, naming the registry; `Unsupported` from a backend that only looks things up.
    async fn publish(&self, publish: &Publish) -> Result<PinnedImage> {
        Err(Error::new(ErrorKind::Unsupported, format!("{publish}: this registry cannot publish"))
            .with_hint("use a registry backend that is spoken to directly"))
    }

    /// Gives an image that is in a registry further tags, without pulling or uploading its blobs.
    ///
    /// **Contract.** The manifest is put under each tag byte for byte, so the digest stays what it is. The result names
    /// the image by the last tag.
    ///
    /// **Idempotency.** A tag that names the image already is left alone.
    ///
    /// **Errors.** `Invalid` for a tag that cannot be read, for no tags, and for an image that was never pushed;
    /// `NotFound` for a digest that the repository does not have; else as [`publish`](Self::publish).
    async fn tag(&self, image: &PinnedImage, tags: &[&str]) -> Result<PinnedImage> {
        let tags = tags.join(", ");
        Err(Error::new(ErrorKind::Unsupported, format!("tag {image} {tags}: this registry cannot"))
            .with_hint("use a registry backend that is spoken to directly"))
    }
}
