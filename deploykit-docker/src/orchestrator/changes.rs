//! Wakes those who wait for a service to change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::models::EventMessage;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::labels;
use crate::engine::Engine;

/// How long to wait before the Engine is asked for events again after they broke off.
const AGAIN: Duration = Duration::from_millis(500);

/// How many deaths are remembered; older ones are forgotten all at once.
const DEATHS: usize = 4_096;

/// Counts what happens to services, from the Engine's events and the probes.
#[derive(Debug)]
pub(super) struct Changes {
    shared: Arc<Shared>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    services: Mutex<HashMap<String, Counter>>,
    deaths: Mutex<HashMap<String, Death>>,
}

#[derive(Debug, Default)]
struct Counter {
    happened: watch::Sender<u64>,
    /// How much of it is known to whoever observes.
    seen: u64,
}

/// How a container ended last; the Engine forgets it when it starts the container again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Death {
    pub(super) exit_code: Option<i64>,
    pub(super) out_of_memory: bool,
}

impl Changes {
    pub(super) fn new() -> Self {
        Self { shared: Arc::default(), listener: Mutex::default() }
    }

    /// To be called before a service is observed: what happens from now on is news.
    pub(super) fn about_to_observe(&self, engine: &Engine, service: &str) {
        self.listen(engine);
        self.shared.catch_up(service);
    }

    /// Something about the service may have changed.
    pub(super) fn notifier(&self, service: &str) -> impl Fn() + Send + Sync + 'static {
        let (shared, service) = (Arc::downgrade(&self.shared), service.to_owned());
        move || {
            if let Some(shared) = shared.upgrade() {
                shared.happened(&service);
            }
        }
    }

    /// Returns at the first thing that happened since the service was last observed or waited for, or after `at_most`.
    pub(super) async fn wait(&self, engine: &Engine, service: &str, at_most: Duration) {
        self.listen(engine);
        let (mut news, seen) = self.shared.counter(service);
        // The sender lives as long as `self`; an error could only mean that there is nothing to wait for.
        let _ = tokio::time::timeout(at_most, news.wait_for(|count| *count > seen)).await;
        self.shared.catch_up(service);
    }

    /// How a container ended last, if that was noticed.
    pub(super) fn death(&self, container: &str) -> Option<Death> {
        lock(&self.shared.deaths).get(container).copied()
    }

    /// Listens to the Engine, unless that goes on already. (A runtime that ends takes the listener with it.)
    fn listen(&self, engine: &Engine) {
        let mut listener = lock(&self.listener);
        if listener.as_ref().is_none_or(JoinHandle::is_finished) {
            *listener = Some(tokio::spawn(follow(engine.clone(), Arc::clone(&self.shared))));
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        if let Some(listener) = lock(&self.listener).take() {
            listener.abort();
        }
    }
}

impl Shared {
    fn counter(&self, service: &str) -> (watch::Receiver<u64>, u64) {
        let mut services = lock(&self.services);
        let counter = services.entry(service.to_owned()).or_default();
        (counter.happened.subscribe(), counter.seen)
    }

    fn catch_up(&self, service: &str) {
        let mut services = lock(&self.services);
        let counter = services.entry(service.to_owned()).or_default();
        counter.seen = *counter.happened.borrow();
    }

    fn happened(&self, service: &str) {
        if let Some(counter) = lock(&self.services).get(service) {
            counter.happened.send_modify(|count| *count += 1);
        }
    }

    fn take(&self, event: EventMessage) {
        let Some(actor) = event.actor else { return };
        let attributes = actor.attributes.unwrap_or_default();
        if let Some(container) = actor.id {
            self.note_death(container, event.action.as_deref(), attributes.get("exitCode"));
        }
        if let Some(service) = attributes.get(labels::SERVICE) {
            self.happened(service);
        }
    }

    fn note_death(&self, container: String, action: Option<&str>, exit_code: Option<&String>) {
        let mut deaths = lock(&self.deaths);
        match action {
            // It comes before `die`.
            Some("oom") => deaths.entry(container).or_default().out_of_memory = true,
            Some("die") => {
                if deaths.len() >= DEATHS {
                    deaths.clear();
                }
                deaths.entry(container).or_default().exit_code =
                    exit_code.and_then(|code| code.parse().ok());
            }
            Some("destroy") => {
                deaths.remove(&container);
            }
            _ => {}
        }
    }

    fn everything_may_have_changed(&self) {
        for counter in lock(&self.services).values() {
            counter.happened.send_modify(|count| *count += 1);
        }
    }
}

async fn follow(engine: Engine, shared: Arc<Shared>) {
    loop {
        let mut events = std::pin::pin!(engine.events(labels::SERVICE));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => shared.take(event),
                Err(failure) => {
                    tracing::debug!(%failure, "the Engine's events broke off");
                    break;
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
        shared.everything_may_have_changed();
    }
}

/// What is behind these locks is whole at any time, so one that a panic poisoned can be used on.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
