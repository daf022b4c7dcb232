//! The registry of the world.

use async_trait::async_trait;
use deploykit_core::{Digest, Error, ErrorKind, ImageRef, PinnedImage, Registry, Result};

use crate::calls::Operation;
use crate::state::State;
use crate::world::World;

/// The registry of a [`World`]: it holds what [`World::image`] put into it.
#[derive(Clone, Debug)]
pub struct WorldRegistry {
    world: World,
}

impl WorldRegistry {
    pub(crate) const fn new(world: World) -> Self {
        Self { world }
    }
}

#[async_trait]
impl Registry for WorldRegistry {
    async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage> {
        let resolve = |state: &mut State| {
            let digest = state.resolve(image)?;
            Ok(PinnedImage::pushed(image.clone(), digest))
        };
        self.world.call(Operation::Resolve, None, String::new, resolve).await
    }
}

impl State {
    /// What an image means now. A digest is taken as it is.
    pub(crate) fn resolve(&self, image: &ImageRef) -> Result<Digest> {
        let found = image.digest().or_else(|| self.tags.get(&tag_key(image)));
        found.cloned().ok_or_else(|| {
            let known: Vec<_> = self.tags.keys().map(String::as_str).collect();
            Error::new(ErrorKind::NotFound, format!("image {image} is not in the world's registry"))
                .with_hint(match known.is_empty() {
                    true => "put it there with World::image".to_owned(),
                    false => format!("put it there with World::image; it has {}", known.join(", ")),
                })
        })
    }
}

/// What a tag is kept under; none is `latest`.
pub(crate) fn tag_key(image: &ImageRef) -> String {
    format!("{}:{}", image.name(), image.tag().unwrap_or("latest"))
}
