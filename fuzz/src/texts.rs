//! What is read from a text, and nothing is done with it.

use deploykit_core::{Digest, DirectoryStore, ImageRef, Journal, ServiceName, Store as _};
use tokio::runtime::Builder;

use crate::answers::{parse_processes, parse_route, parse_rows, parse_variable};
use crate::manifests::Manifest;
use crate::stage::owner;

/// An image reference. What is taken reads back as it was written.
pub fn image(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let _ = text.parse::<Digest>();
    let Ok(image) = ImageRef::parse(text) else { return };
    assert_eq!(image.to_string(), text);
    assert!(image.registry().is_none_or(|host| image.name().starts_with(host)));
    if let Ok(tagged) = image.with_tag("1.4") {
        assert_eq!((tagged.name(), tagged.tag()), (image.name(), Some("1.4")));
    }
}

/// What HAProxy answers, to whichever question.
pub fn haproxy(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(processes) = parse_processes(&text) {
        assert_ne!(processes.current, 0);
    }
    if let Ok(rows) = parse_rows(&text) {
        // Whatever was cut off must have been noticed.
        let lines = text.lines().skip(1).filter(|line| !line.trim().is_empty());
        assert_eq!(rows.len(), lines.count());
    }
    if let Ok(Some(value)) = parse_variable("get var", &text) {
        let _ = parse_route(&value);
    }
    let _ = parse_route(&text);
}

/// The manifest of an image, as a registry or a layout has it.
pub fn manifest(data: &[u8]) {
    let Ok((manifest, _)) = Manifest::read(data.to_vec().into()) else { return };
    assert_eq!(manifest.digest, Digest::of(data));
}

/// The file of a journal. Where it can be read, a line that is appended comes after what was read.
pub fn store(data: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let service = ServiceName::new("web").unwrap();
    let web = directory.path().join("web");
    std::fs::create_dir(&web).unwrap();
    std::fs::write(web.join("history.jsonl"), data).unwrap();
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let store = DirectoryStore::open(directory.path()).unwrap();
        let history = Journal::History(service.clone());
        let Ok(mut lines) = store.read(&history, 0).await else { return };
        let lease = store.acquire(&service, &owner(), std::time::Duration::MAX).await.unwrap();
        let line = "{\"n\":1}".to_owned();
        let count = lines.len() as u64;
        let batch = std::slice::from_ref(&line);
        assert_eq!(store.append(&lease, &history, count, batch).await.unwrap(), count + 1);
        lines.push(line);
        assert_eq!(store.read(&history, 0).await.unwrap(), lines);
    });
}
