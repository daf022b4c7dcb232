//! An image that no Engine has made.

use std::path::Path;

use deploykit_core::Digest;
use serde_json::{Value, json};

/// A directory in the OCI image layout with an index of two platforms, each with a layer of `size` bytes.
pub(crate) fn layout(directory: &Path, size: usize) -> Digest {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, bytes: &[u8]| -> Value {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let manifests = ["amd64", "arm64"].map(|architecture| {
        let mut layer = architecture.repeat(size / architecture.len() + 1).into_bytes();
        layer.truncate(size);
        let content = Digest::of(&layer);
        let layer = put("application/vnd.oci.image.layer.v1.tar", &layer);
        let config = json!({ "architecture": architecture, "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [content] } });
        let config = put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        // Spread over lines, as no program would write it again.
        let manifest = serde_json::to_string_pretty(&json!({ "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer] }));
        let manifest =
            put("application/vnd.oci.image.manifest.v1+json", manifest.unwrap().as_bytes());
        let mut manifest = manifest;
        manifest["platform"] = json!({ "architecture": architecture, "os": "linux" });
        manifest
    });
    let index = json!({ "schemaVersion": 2, "manifests": manifests,
        "mediaType": "application/vnd.oci.image.index.v1+json" });
    let index = put("application/vnd.oci.image.index.v1+json", index.to_string().as_bytes());
    let digest = index["digest"].as_str().unwrap().parse().unwrap();
    let list = json!({ "schemaVersion": 2, "manifests": [index] });
    std::fs::write(directory.join("index.json"), list.to_string()).unwrap();
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    digest
}
