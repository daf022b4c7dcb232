use std::fmt;

use async_trait::async_trait;

use crate::error::Result;
use crate::image::{ImageRef, PinnedImage};

/// Knows what images mean.
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
}
