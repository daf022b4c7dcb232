use deploykit_core::{HookContext, ImageRef, PinnedImage, Point, Release, ServiceSpec};

use crate::context;

/// The undoing of a rollout from version 1, which has a secret in its settings, to version 2, which has a sidecar.
pub(crate) fn undoing() -> HookContext {
    let image = |name, digit: &str| {
        let digest = format!("sha256:{}", digit.repeat(64)).parse().unwrap();
        PinnedImage::pushed(ImageRef::parse(name).unwrap(), digest)
    };
    let spec = ServiceSpec::http(8080, "/health").with_env("KEY", "hush");
    let mut release = Release::new(image("reg:5000/web:2", "2"), spec.clone());
    release.sidecars.insert("proxy".to_owned(), image("envoy:1", "3"));
    let mut told = HookContext::new(Point::OnUndo, context(), release);
    told.before = Some(Release::new(image("reg:5000/web:1", "1"), spec));
    told.why = Some("smoke: it is bad".to_owned());
    told
}
