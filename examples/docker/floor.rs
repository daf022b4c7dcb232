//! The floor: how long the Engine itself takes for the containers of a rollout.

use std::time::{Duration, Instant};

use deploykit::{Error, ErrorKind, Result};
use serde_json::json;
use tokio::task::JoinSet;

use crate::engine::Bare;
use crate::site::label;

/// Creates and starts so many containers of an image on a network, then stops and removes them; all at once, since
/// that is the quickest. Nothing waits until they serve.
pub(crate) async fn measure(
    engine: &Bare,
    image: &str,
    network: &str,
    count: u32,
) -> Result<Duration> {
    let body = json!({
        "Image": image,
        "Labels": label(),
        "HostConfig": { "NetworkMode": network },
    });
    let began = Instant::now();
    let mut starts = JoinSet::new();
    for number in 0..count {
        let (engine, body) = (engine.clone(), body.clone());
        let name = format!("{network}-floor-{number}");
        starts.spawn(async move {
            engine.post(&format!("/containers/create?name={name}"), Some(&body)).await?;
            engine.post(&format!("/containers/{name}/start"), None).await?;
            Ok(name)
        });
    }
    let mut stops = JoinSet::new();
    for name in all(starts).await? {
        let engine = engine.clone();
        stops.spawn(async move {
            engine.post(&format!("/containers/{name}/stop"), None).await?;
            engine.delete(&format!("/containers/{name}")).await
        });
    }
    all(stops).await?;
    Ok(began.elapsed())
}

async fn all<T: 'static>(mut tasks: JoinSet<Result<T>>) -> Result<Vec<T>> {
    let mut results = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let panicked =
            |error| Error::new(ErrorKind::Other, "the floor's task ended").with_source(error);
        results.push(ended.map_err(panicked)??);
    }
    Ok(results)
}
