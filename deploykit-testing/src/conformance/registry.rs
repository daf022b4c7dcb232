//! What a registry promises.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use deploykit_core::{
    Digest, ErrorKind, ImageRef, PinnedImage, Publish, PublishEvent, Registry, Result,
};
use futures::future::{join, join_all};

use super::{
    Case, Report, Stage, always, cases, dropped, drops, play_all, play_one, settled, unique_service,
};

/// How the suite gets at a registry.
#[async_trait]
pub trait RegistryHarness: Send + Sync {
    /// A handle to the registry, of its own, as another process would have. All of them see the same images.
    async fn open(&self) -> Arc<dyn Registry>;

    /// An image that is in the registry, by name and tag.
    async fn image(&self) -> ImageRef;

    /// What can be published, as `1` into a repository that nobody else has and that is named after `unique`; always the
    /// same content. None for a registry that only looks things up.
    async fn publish(&self, unique: &str) -> Option<Publish>;

    /// The longest that anything may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// Checks every promise of a registry.
pub async fn registry(harness: &dyn RegistryHarness) -> Report {
    play_all(promises(), || On::new(harness)).await
}

/// Checks one promise of a registry, by its name.
///
/// # Panics
/// If it is broken.
pub async fn check_registry(harness: &dyn RegistryHarness, promise: &str) {
    play_one(promises(), promise, On::new(harness)).await;
}

/// Makes a test of each promise of a [`Registry`]: an attribute for all of them, and a [`RegistryHarness`] that is made for
/// each. See [`conformance`](crate::conformance).
#[macro_export]
macro_rules! registry_conformance {
    ($(#[$attribute:meta])+ $harness:expr) => {
        $crate::__promises_of_a_registry! {
            [$crate::__conformance_tests] [[$(#[$attribute])+] check_registry $harness]
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __promises_of_a_registry {
    ([$($then:tt)+] $with:tt) => { $($then)+! { $with
        always:
            a_tag_means_the_same_to_everybody_each_time
            a_reference_with_a_digest_is_believed
            what_was_resolved_is_resolved_to_itself
            a_tag_that_is_not_there_is_not_found
            a_repository_that_is_not_there_is_not_found
            many_who_resolve_at_once_get_the_same
            a_dropped_look_can_be_made_again
        ;
        publishes:
            what_was_published_is_found_under_each_of_its_tags
            publishing_twice_uploads_nothing
            a_publication_whose_answer_was_lost_is_made_once
            many_who_publish_the_same_at_once_publish_it
            a_dropped_publication_names_nothing_or_all_and_can_be_made_again
            publishing_what_is_not_there_is_not_found_and_sets_no_tag
            a_further_tag_names_the_same_image
            tagging_twice_changes_nothing
            a_tag_whose_answer_was_lost_is_set_once
            many_who_tag_at_once_succeed
            a_dropped_tag_names_nothing_or_the_image_and_can_be_set_again
            tagging_what_is_not_there_is_not_found
            tagging_with_what_is_no_tag_is_invalid
            tagging_what_was_never_pushed_is_invalid
        ;
        looks_up:
            publishing_is_unsupported_where_things_are_only_looked_up
        ;
    } };
}

fn promises<'h>() -> Vec<Case<On<'h>>> {
    __promises_of_a_registry! { [cases] [] }
}

fn publishes(on: &On<'_>) -> bool {
    on.publish.is_some()
}

fn looks_up(on: &On<'_>) -> bool {
    on.publish.is_none()
}

struct On<'h> {
    harness: &'h dyn RegistryHarness,
    first: Arc<dyn Registry>,
    /// As another process has it.
    second: Arc<dyn Registry>,
    image: ImageRef,
    publish: Option<Publish>,
}

#[async_trait]
impl Stage for On<'_> {
    fn patience(&self) -> Duration {
        self.harness.patience()
    }
}

impl<'h> On<'h> {
    async fn new(harness: &'h dyn RegistryHarness) -> Self {
        let (first, second) = (harness.open().await, harness.open().await);
        let publish = harness.publish(unique_service().as_str()).await;
        Self { harness, first, second, image: harness.image().await, publish }
    }

    /// As the harness gives it.
    fn publish(&self) -> Publish {
        self.publish.clone().unwrap()
    }

    /// What it publishes, named like this.
    fn named(&self, tag: &str) -> ImageRef {
        self.publish().repository().with_tag(tag).unwrap()
    }

    async fn published(&self) -> PinnedImage {
        self.first.publish(&self.publish()).await.unwrap()
    }

    /// What a name means, if anything.
    async fn digest(&self, by: &dyn Registry, image: &ImageRef) -> Option<Digest> {
        match by.resolve(image).await {
            Ok(pinned) => Some(pinned.digest),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("{}", error.report()),
        }
    }

    async fn settled<T: Send, F: Future<Output = Result<T>> + Send>(
        &self,
        call: impl Fn() -> F + Send + Sync,
    ) -> T {
        settled(self.patience(), call).await.unwrap()
    }
}

/// Counts how many blobs are uploaded.
fn counted(publish: Publish) -> (Publish, Arc<AtomicUsize>) {
    let uploads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&uploads);
    let counted = publish.on_progress(move |event| {
        if matches!(event, PublishEvent::Uploaded { .. }) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    (counted, uploads)
}

async fn a_tag_means_the_same_to_everybody_each_time(on: &On<'_>) {
    let found = on.first.resolve(&on.image).await.unwrap();
    assert!(!found.local && found.asked == on.image, "{found:?}");
    assert_eq!(on.first.resolve(&on.image).await.unwrap(), found);
    assert_eq!(on.second.resolve(&on.image).await.unwrap(), found);
}

async fn a_reference_with_a_digest_is_believed(on: &On<'_>) {
    let digest = Digest::of(b"what nobody has");
    let name = format!("{}@{digest}", on.image.name());
    let found = on.first.resolve(&ImageRef::parse(&name).unwrap()).await.unwrap();
    assert_eq!(found.digest, digest);
}

async fn what_was_resolved_is_resolved_to_itself(on: &On<'_>) {
    let found = on.first.resolve(&on.image).await.unwrap();
    let again = ImageRef::parse(&found.pull_name()).unwrap();
    assert_eq!(on.second.resolve(&again).await.unwrap().digest, found.digest);
}

async fn a_tag_that_is_not_there_is_not_found(on: &On<'_>) {
    let never = ImageRef::parse(&format!("{}:never-was", on.image.name())).unwrap();
    assert_eq!(on.first.resolve(&never).await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn a_repository_that_is_not_there_is_not_found(on: &On<'_>) {
    let never = ImageRef::parse(&format!("{}-never-was:1", on.image.name())).unwrap();
    assert_eq!(on.first.resolve(&never).await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn many_who_resolve_at_once_get_the_same(on: &On<'_>) {
    let handles = [&on.first, &on.second, &on.first, &on.second];
    let all = join_all(handles.map(|handle| on.settled(|| handle.resolve(&on.image)))).await;
    let digests: BTreeSet<_> = all.iter().map(|found| &found.digest).collect();
    assert_eq!(digests.len(), 1, "{all:?}");
}

async fn a_dropped_look_can_be_made_again(on: &On<'_>) {
    let found = on.first.resolve(&on.image).await.unwrap();
    for nth in drops() {
        let answer = dropped(nth, on.first.resolve(&on.image)).await;
        assert_eq!(on.first.resolve(&on.image).await.unwrap(), found);
        if answer.is_some() {
            break;
        }
    }
}

async fn what_was_published_is_found_under_each_of_its_tags(on: &On<'_>) {
    let published = on.published().await;
    assert!(!published.local, "{published:?}");
    for tag in on.publish().tags() {
        for by in [&on.first, &on.second] {
            let found = on.digest(by, &on.named(tag)).await;
            assert_eq!(found.as_ref(), Some(&published.digest), "{tag}");
        }
    }
}

async fn publishing_twice_uploads_nothing(on: &On<'_>) {
    let first = on.published().await;
    let (again, uploads) = counted(on.publish());
    assert_eq!(on.first.publish(&again).await.unwrap(), first);
    assert_eq!(uploads.load(Ordering::Relaxed), 0);
}

async fn a_publication_whose_answer_was_lost_is_made_once(on: &On<'_>) {
    drop(on.first.publish(&on.publish()).await);
    let (again, uploads) = counted(on.publish());
    let published = on.second.publish(&again).await.unwrap();
    assert_eq!(uploads.load(Ordering::Relaxed), 0);
    assert_eq!(on.digest(&on.first, &on.named("1")).await, Some(published.digest));
}

async fn many_who_publish_the_same_at_once_publish_it(on: &On<'_>) {
    let publish = on.publish();
    let both =
        join(on.settled(|| on.first.publish(&publish)), on.settled(|| on.second.publish(&publish)));
    let (one, other) = both.await;
    assert_eq!(one, other);
    assert_eq!(on.digest(&on.first, &on.named("1")).await, Some(one.digest));
}

async fn a_dropped_publication_names_nothing_or_all_and_can_be_made_again(on: &On<'_>) {
    for nth in drops() {
        let unique = unique_service();
        let publish = on.harness.publish(unique.as_str()).await.unwrap();
        let name = publish.name();
        let answer = dropped(nth, on.first.publish(&publish)).await;
        let named = on.digest(&on.second, &name).await;
        let published = on.settled(|| on.second.publish(&publish)).await.digest;
        assert!(named.is_none() || named.as_ref() == Some(&published), "{named:?}");
        assert_eq!(on.digest(&on.first, &name).await, Some(published));
        if answer.is_some() {
            break;
        }
    }
}

async fn publishing_what_is_not_there_is_not_found_and_sets_no_tag(on: &On<'_>) {
    let repository = on.publish().repository().to_string();
    let never = Publish::image("conformance/never-was:1", &repository, ["1"]).unwrap();
    assert_eq!(on.first.publish(&never).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(on.digest(&on.first, &on.named("1")).await, None);
}

async fn a_further_tag_names_the_same_image(on: &On<'_>) {
    let published = on.published().await;
    let tagged = on.first.tag(&published, &["2", "3"]).await.unwrap();
    assert_eq!((&tagged.asked, &tagged.digest), (&on.named("3"), &published.digest));
    for tag in ["1", "2", "3"] {
        let found = on.digest(&on.second, &on.named(tag)).await;
        assert_eq!(found.as_ref(), Some(&published.digest), "{tag}");
    }
}

async fn tagging_twice_changes_nothing(on: &On<'_>) {
    let published = on.published().await;
    let once = on.first.tag(&published, &["2"]).await.unwrap();
    assert_eq!(on.first.tag(&published, &["2"]).await.unwrap(), once);
    assert_eq!(on.digest(&on.first, &on.named("2")).await, Some(published.digest));
}

async fn a_tag_whose_answer_was_lost_is_set_once(on: &On<'_>) {
    let published = on.published().await;
    drop(on.first.tag(&published, &["2"]).await);
    on.second.tag(&published, &["2"]).await.unwrap();
    assert_eq!(on.digest(&on.second, &on.named("2")).await, Some(published.digest));
}

async fn many_who_tag_at_once_succeed(on: &On<'_>) {
    let published = on.published().await;
    let handles = [(&on.first, "2"), (&on.second, "2"), (&on.first, "3")];
    let tags = handles.map(|(handle, tag)| {
        let published = &published;
        on.settled(move || async move { handle.tag(published, &[tag]).await })
    });
    join_all(tags).await;
    for tag in ["2", "3"] {
        let found = on.digest(&on.second, &on.named(tag)).await;
        assert_eq!(found.as_ref(), Some(&published.digest), "{tag}");
    }
}

async fn a_dropped_tag_names_nothing_or_the_image_and_can_be_set_again(on: &On<'_>) {
    let published = on.published().await;
    for nth in drops() {
        let tag = format!("dropped-{nth}");
        let answer = dropped(nth, on.first.tag(&published, &[&tag])).await;
        let named = on.digest(&on.second, &on.named(&tag)).await;
        assert!(named.is_none() || named.as_ref() == Some(&published.digest), "{named:?}");
        on.second.tag(&published, &[&tag]).await.unwrap();
        let named = on.digest(&on.first, &on.named(&tag)).await;
        assert_eq!(named.as_ref(), Some(&published.digest));
        if answer.is_some() {
            break;
        }
    }
}

async fn tagging_what_is_not_there_is_not_found(on: &On<'_>) {
    on.published().await;
    let never = PinnedImage::pushed(on.named("1"), Digest::of(b"what nobody has"));
    assert_eq!(on.first.tag(&never, &["2"]).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(on.digest(&on.first, &on.named("2")).await, None);
}

async fn tagging_with_what_is_no_tag_is_invalid(on: &On<'_>) {
    let published = on.published().await;
    for tags in [&[][..], &["a b"], &["2", "a b"]] {
        let error = on.first.tag(&published, tags).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{tags:?}");
    }
    assert_eq!(on.digest(&on.first, &on.named("2")).await, None);
}

async fn tagging_what_was_never_pushed_is_invalid(on: &On<'_>) {
    let published = on.published().await;
    let local = PinnedImage::local(published.asked, published.digest);
    assert_eq!(on.first.tag(&local, &["2"]).await.unwrap_err().kind(), ErrorKind::Invalid);
}

async fn publishing_is_unsupported_where_things_are_only_looked_up(on: &On<'_>) {
    let repository = on.image.name();
    let publish = Publish::image("conformance/never-was:1", repository, ["2"]).unwrap();
    assert_eq!(on.first.publish(&publish).await.unwrap_err().kind(), ErrorKind::Unsupported);
    let found = on.first.resolve(&on.image).await.unwrap();
    assert_eq!(on.first.tag(&found, &["2"]).await.unwrap_err().kind(), ErrorKind::Unsupported);
}
