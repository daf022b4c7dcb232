//! The registry of the world.

use async_trait::async_trait;
use deploykit_core::{
    Digest, Error, ErrorKind, ImageRef, ImageSource, PinnedImage, Publish, PublishEvent, Registry,
    Result,
};

use crate::behaviour::Behaviour;
use crate::calls::Operation;
use crate::state::State;
use crate::world::World;

/// How many bytes an image of the world has; it is one blob.
const SIZE: u64 = 1 << 20;

/// The registry of a [`World`]: it holds what [`World::image`] put into it, and takes what [`World::build`] built.
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

    async fn publish(&self, publish: &Publish) -> Result<PinnedImage> {
        let mut events = Vec::new();
        let act = |state: &mut State| state.publish(publish, &mut events);
        let published =
            self.world.call(Operation::Publish, None, || publish.to_string(), act).await;
        // Told when the world is not locked any more: an observer may look at it.
        events.into_iter().for_each(|event| publish.report(event));
        published
    }

    async fn tag(&self, image: &PinnedImage, tags: &[&str]) -> Result<PinnedImage> {
        let act = |state: &mut State| state.tag(image, tags);
        self.world.call(Operation::Tag, None, || format!("{image} {tags:?}"), act).await
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

    /// Something new that behaves like this.
    pub(crate) fn make(&mut self, name: &str, behaviour: Behaviour) -> Digest {
        let digest = Digest::of(format!("{name} {}", self.behaviours.len()).as_bytes());
        self.behaviours.insert(digest.clone(), behaviour);
        digest
    }

    /// Has a tag name a digest.
    pub(crate) fn put(&mut self, image: &ImageRef, digest: Digest) {
        self.repositories.insert((image.name().to_owned(), digest.clone()));
        self.tags.insert(tag_key(image), digest);
    }

    fn publish(
        &mut self,
        publish: &Publish,
        events: &mut Vec<PublishEvent>,
    ) -> Result<PinnedImage> {
        let same = |source: &ImageSource| match (source, publish.source()) {
            (ImageSource::Engine(one), ImageSource::Engine(other)) => {
                tag_key(one) == tag_key(other) && other.digest().is_none()
            }
            (one, other) => one == other,
        };
        let found = self.built.iter().rev().find(|(source, _)| same(source));
        let digest = found.map(|(_, digest)| digest.clone()).ok_or_else(|| {
            let source = publish.source();
            Error::new(ErrorKind::NotFound, format!("{source} was not built in this world"))
                .with_hint("build it with World::build or World::build_layout")
        })?;
        let blob = digest.clone();
        let has = |repository: &ImageRef| {
            self.repositories.contains(&(repository.name().to_owned(), digest.clone()))
        };
        events.push(PublishEvent::Reading { done: SIZE });
        events.push(PublishEvent::Found { blobs: 1, bytes: SIZE });
        if has(publish.repository()) {
            events.push(PublishEvent::Skipped { blob, total: SIZE });
        } else if let Some(from) = publish.mounts().iter().find(|mount| has(mount)) {
            events.push(PublishEvent::Mounted { blob, total: SIZE, from: from.clone() });
        } else {
            events.extend([0, SIZE / 2, SIZE].map(|done| {
                let blob = blob.clone();
                PublishEvent::Uploading { blob, done, total: SIZE }
            }));
            events.push(PublishEvent::Uploaded { blob, total: SIZE });
        }
        for tag in publish.tags() {
            let moved = self.set_tag(&publish.repository().with_tag(tag)?, &digest);
            events.push(PublishEvent::Tagged { tag: tag.clone(), digest: digest.clone(), moved });
        }
        Ok(PinnedImage::pushed(publish.name(), digest))
    }

    fn tag(&mut self, image: &PinnedImage, tags: &[&str]) -> Result<PinnedImage> {
        let named = image.tagged(tags)?;
        if !self.repositories.contains(&(image.asked.name().to_owned(), image.digest.clone())) {
            let text = format!("image {image} is not in the world's registry");
            return Err(Error::new(ErrorKind::NotFound, text)
                .with_hint("publish it, or put it there with World::image"));
        }
        for name in &named {
            self.set_tag(name, &image.digest);
        }
        Ok(named
            .into_iter()
            .next_back()
            .map_or_else(|| image.clone(), |name| PinnedImage::pushed(name, image.digest.clone())))
    }

    /// Whether the tag named something else before.
    fn set_tag(&mut self, name: &ImageRef, digest: &Digest) -> bool {
        let moved = self.tags.get(&tag_key(name)) != Some(digest);
        self.put(name, digest.clone());
        self.version += u64::from(moved);
        moved
    }
}

/// A name that the world can put something under.
pub(crate) fn nameable(name: &str) -> Result<ImageRef> {
    let image = ImageRef::parse(name)?;
    if image.digest().is_some() {
        return Err(Error::invalid(format!("image {name} carries a digest"))
            .with_hint("the world makes the digest; give a name and a tag"));
    }
    Ok(image)
}

/// What a tag is kept under; none is `latest`.
fn tag_key(image: &ImageRef) -> String {
    format!("{}:{}", image.name(), image.tag().unwrap_or("latest"))
}
