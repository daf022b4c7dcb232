//! From files to a repository: blobs first, tags last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use deploykit_core::{Digest, Error, Publish, PublishEvent, Result};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use oci_client::errors::OciDistributionError;
use tokio::io::AsyncReadExt;

use super::manifest::{Blob, Prepared};
use super::session::Session;

/// How many blobs are on their way at once.
const AT_ONCE: usize = 4;

/// How much of a blob is read at once.
const PART: usize = 256 << 10;

/// How long an upload may stand still. When all of a blob was sent, a registry may still have to move it.
const STILL: Duration = Duration::from_secs(120);

/// Puts everything there, sets the tags and says what they name.
pub(super) async fn upload(
    session: &Session,
    publish: &Publish,
    prepared: Prepared,
) -> Result<Digest> {
    let bytes = prepared.blobs.iter().map(|blob| blob.size).sum();
    publish.report(PublishEvent::Found { blobs: prepared.blobs.len(), bytes });
    let mut blobs = Vec::new();
    for blob in &prepared.blobs {
        blobs.push(bring(session, publish, blob).boxed());
    }
    stream::iter(blobs).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    for manifest in &prepared.children {
        session.put(manifest).await?;
    }
    let root = &prepared.root;
    for tag in publish.tags() {
        let moved = session.set_tag(tag, root).await?;
        let (tag, digest) = (tag.clone(), root.digest.clone());
        publish.report(PublishEvent::Tagged { tag, digest, moved });
    }
    let digest = root.digest.clone();
    // No request reads its files any more.
    drop(prepared.spool);
    Ok(digest)
}

/// Has the repository hold a blob.
async fn bring(session: &Session, publish: &Publish, blob: &Blob) -> Result<()> {
    let tell = |error: &Error| publish.report(PublishEvent::Retrying { why: error.report() });
    session.retrying(tell, || once(session, publish, blob)).await
}

async fn once(session: &Session, publish: &Publish, blob: &Blob) -> Result<()> {
    let (digest, total) = (blob.digest.clone(), blob.size);
    // After a lost answer it is there, too.
    if exists(session, blob).await? {
        publish.report(PublishEvent::Skipped { blob: digest, total });
        return Ok(());
    }
    let here = session.at("latest");
    for from in publish.mounts() {
        let there = session.elsewhere(from);
        let mount = session.client().mount_blob(&here, &there, digest.as_str());
        match session.call("mount", mount).await {
            Ok(()) => {
                let from = from.clone();
                publish.report(PublishEvent::Mounted { blob: digest, total, from });
                return Ok(());
            }
            // A registry that will not mount has begun an upload instead, which nobody goes on with.
            Err(error) => tracing::debug!(%error, blob = %digest, %from, "not mounted"),
        }
    }
    send(session, publish, blob).await?;
    publish.report(PublishEvent::Uploaded { blob: digest, total });
    Ok(())
}

async fn exists(session: &Session, blob: &Blob) -> Result<bool> {
    let doing = format!("look for blob {}", blob.digest.short());
    let here = session.at("latest");
    session.call(&doing, session.client().blob_exists(&here, blob.digest.as_str())).await
}

async fn send(session: &Session, publish: &Publish, blob: &Blob) -> Result<()> {
    let doing = format!("upload blob {}", blob.digest.short());
    let sent = Arc::new(AtomicU64::new(0));
    let here = session.at("latest");
    let content = content(blob.clone(), publish.clone(), Arc::clone(&sent));
    let digest = blob.digest.as_str();
    let upload = session.client().push_blob_stream(&here, content, digest, Some(blob.size));
    let uploaded = tokio::select! {
        uploaded = upload => uploaded,
        () = standstill(&sent) => return Err(session.silent(&doing, STILL)),
    };
    match uploaded {
        Ok(_) => Ok(()),
        // Where it was put need not be said, if only it was.
        Err(OciDistributionError::RegistryNoLocationError) if exists(session, blob).await? => {
            Ok(())
        }
        Err(error) => Err(session.explain(&doing, error)),
    }
}

/// Returns when nothing more was sent for too long.
async fn standstill(sent: &AtomicU64) {
    let mut before = None;
    loop {
        let now = sent.load(Ordering::Relaxed);
        if before.replace(now) == Some(now) {
            return;
        }
        tokio::time::sleep(STILL).await;
    }
}

/// The blob in parts, telling each as it leaves.
fn content(
    blob: Blob,
    publish: Publish,
    sent: Arc<AtomicU64>,
) -> impl Stream<Item = Result<Bytes, OciDistributionError>> + Send + 'static {
    let (digest, total) = (blob.digest, blob.size);
    let parts = stream::try_unfold(None, move |file| {
        let path = blob.path.clone();
        async move {
            let mut file = match file {
                Some(file) => file,
                None => tokio::fs::File::open(path).await?,
            };
            let mut part = Vec::with_capacity(PART);
            (&mut file).take(PART as u64).read_to_end(&mut part).await?;
            Ok((!part.is_empty()).then(|| (Bytes::from(part), Some(file))))
        }
    });
    let mut done = 0;
    parts.inspect_ok(move |part: &Bytes| {
        done += part.len() as u64;
        sent.store(done, Ordering::Relaxed);
        publish.report(PublishEvent::Uploading { blob: digest.clone(), done, total });
    })
}
