//! The open loop, and the thread it runs in.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::client::{Client, Shot};
use super::report::Recorder;

/// Runs the load in this thread; `done` is told, or dropped, when it has ended.
pub(super) fn block_on(
    load: impl Future<Output = ()>,
    recorder: &Recorder,
    done: oneshot::Sender<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(load),
        Err(error) => recorder.unknown(format_args!("no runtime: {error}")),
    }
    // Nobody listens when the handle was dropped instead of stopped.
    let _ = done.send(());
}

/// Starts each request when it is due, whatever has become of those before, until the load is stopped; then waits for
/// those in flight.
pub(super) async fn run(
    client: Arc<Client>,
    rate: u32,
    websocket_held: Option<Duration>,
    mut stop: watch::Receiver<()>,
) {
    let check = |done: Result<(), JoinError>| {
        if let Err(error) = done {
            client.recorder.unknown(error);
        }
    };
    let mut flying = JoinSet::new();
    if let Some(held) = websocket_held {
        let (client, stop) = (Arc::clone(&client), stop.clone());
        flying.spawn(async move { client.websockets(held, stop).await });
    }

    let start = Instant::now();
    for number in 0u64.. {
        // From the start and not from the request before: a loop that runs late catches up.
        let due = start + Duration::from_secs_f64(number as f64 / f64::from(rate));
        tokio::select! {
            biased;
            _ = stop.changed() => break,
            () = sleep_until(due) => client.recorder.started(due.elapsed()),
        }
        let client = Arc::clone(&client);
        flying.spawn(async move { client.send(Shot::numbered(number)).await });
        while let Some(done) = flying.try_join_next() {
            check(done);
        }
    }
    while let Some(done) = flying.join_next().await {
        check(done);
    }
}
