//! Requests of many clients, sent at a fixed rate whatever becomes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use deploykit_core::{Place, ServiceName};

use crate::requests::{Answer, Ask, Client, LINE, Road};
use crate::rng::Rng;
use crate::state::{At, Event, State};
use crate::tally::Tally;
use crate::world::World;

/// Requests to be sent to a service: an open loop, so that slow answers do not make it send less, and nothing is ever
/// sent again.
///
/// A request fails when there was no target for it, when its task ended or its target was removed while it was
/// answered, when the answer has a status of 500 or more, and when there is none in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Traffic {
    per_second: u32,
    slow_percent: u8,
    slow: Duration,
    timeout: Duration,
    clients: u32,
}

impl Traffic {
    /// So many requests in a second, evenly spread; at least 1. 5 % of them take 2 s of work, and clients wait 5 s.
    pub const fn per_second(requests: u32) -> Self {
        Self {
            per_second: if requests == 0 { 1 } else { requests },
            slow_percent: 5,
            slow: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
            clients: 0,
        }
    }

    /// So many new connections in a second to a TCP service; at least 1. Each lasts so long, and fails when it is cut before.
    ///
    /// To the world a connection is one long request: it goes where the shares are when it is made, is in flight at its task
    /// until it ends, and is what draining waits for.
    pub const fn connections_per_second(connections: u32, lasting: Duration) -> Self {
        Self {
            slow_percent: 100,
            slow: lasting,
            timeout: Duration::MAX,
            ..Self::per_second(connections)
        }
    }

    /// Sets which part of the requests makes how much more work.
    pub const fn with_slow(mut self, percent: u8, work: Duration) -> Self {
        self.slow_percent = percent;
        self.slow = work;
        self
    }

    /// The requests come from so many clients in turn, and the balancer is sticky: it keeps each client with the version that it
    /// got, as HAProxy does. [`RunningTraffic::moves`] tells where clients went.
    ///
    /// Each client has a point on a line that the places of the routing share in the order of their letters, so a share that
    /// grows only adds clients. Under a pooled routing they share it by the number of their healthy targets.
    pub const fn with_sticky_clients(mut self, clients: u32) -> Self {
        self.clients = clients;
        self
    }

    /// Sets how long clients wait for an answer.
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// Requests that are being sent; it ends with [`stop`](Self::stop), or when this is dropped.
#[derive(Debug)]
pub struct RunningTraffic {
    world: World,
    source: usize,
}

impl RunningTraffic {
    pub(crate) fn start(world: World, service: &ServiceName, traffic: Traffic) -> Self {
        let source = world.lock().add_source(service, traffic);
        Self { world, source }
    }

    /// What became of the requests that have ended so far.
    pub fn tally(&self) -> Tally {
        self.of_source(|source| source.tally.clone())
    }

    /// How many clients' last request went to a place. Only of [sticky clients](Traffic::with_sticky_clients).
    pub fn clients_of(&self, place: Place) -> usize {
        let at_place = |client: &&StickyClient| client.last == Some(place);
        self.of_source(|source| source.clients.iter().filter(at_place).count())
    }

    /// How often a client that had been sent to one place was sent to another one, by both. Only of
    /// [sticky clients](Traffic::with_sticky_clients).
    ///
    /// A rollout from `A` to `B` moves each of them from `A` to `B` once, and none from `B` to `A`.
    pub fn moves(&self) -> BTreeMap<(Place, Place), u64> {
        self.of_source(|source| source.moves.clone())
    }

    fn of_source<T: Default>(&self, read: impl FnOnce(&Source) -> T) -> T {
        self.world.lock().sources.get(self.source).map(read).unwrap_or_default()
    }

    /// Sends nothing more, waits for what is being answered, and tells what became of all of it.
    pub async fn stop(self) -> Tally {
        let last = {
            let mut state = self.world.lock();
            state.close_source(self.source);
            state.last_due(self.source)
        };
        if let Some(last) = last {
            self.world.until(last).await;
        }
        self.tally()
    }
}

impl Drop for RunningTraffic {
    fn drop(&mut self) {
        self.world.lock().close_source(self.source);
    }
}

/// A load in the state of the world.
pub(crate) struct Source {
    service: usize,
    traffic: Traffic,
    began: At,
    sent: u64,
    is_open: bool,
    rng: Rng,
    tally: Tally,
    clients: Vec<StickyClient>,
    moves: BTreeMap<(Place, Place), u64>,
}

/// A client that the balancer knows again.
struct StickyClient {
    point: u64,
    /// Where its last request was sent.
    last: Option<Place>,
}

/// Streams of loads lie apart from those of tasks, which have their service's number in the highest bits.
const STREAMS: u64 = 0xffff << 48;

impl State {
    fn add_source(&mut self, service: &ServiceName, traffic: Traffic) -> usize {
        let source = self.sources.len();
        let service = self.find_or_add(service);
        let mut rng = Rng::new(self.seed, STREAMS + source as u64);
        let client = |_| StickyClient { point: rng.below(LINE), last: None };
        let clients = (0..traffic.clients).map(client).collect();
        self.sources.push(Source {
            service,
            traffic,
            began: self.now,
            sent: 0,
            is_open: true,
            rng,
            tally: Tally::new(),
            clients,
            moves: BTreeMap::new(),
        });
        self.schedule_arrival(source);
        source
    }

    fn close_source(&mut self, source: usize) {
        if let Some(source) = self.sources.get_mut(source) {
            source.is_open = false;
        }
    }

    fn schedule_arrival(&mut self, source: usize) {
        if let Some(entry) = self.sources.get(source) {
            // Counted from the beginning, so that rounding does not add up.
            let (sent, rate) = (entry.sent + 1, u64::from(entry.traffic.per_second));
            let after = Duration::from_secs(sent / rate)
                + Duration::from_nanos(sent % rate * 1_000_000_000 / rate);
            let at = entry.began.saturating_add(after);
            self.schedule(at, Event::Arrive { source });
        }
    }

    /// The next request of a load arrives.
    pub(crate) fn arrive(&mut self, source: usize) {
        let Some(entry) = self.sources.get_mut(source).filter(|entry| entry.is_open) else {
            return;
        };
        let sticky =
            usize::try_from(entry.sent).ok().and_then(|n| n.checked_rem(entry.clients.len()));
        let point = sticky.and_then(|sticky| Some(entry.clients.get(sticky)?.point));
        entry.sent += 1;
        let mut rng = entry.rng;
        let is_slow = rng.below(100) < u64::from(entry.traffic.slow_percent);
        let ask = Ask {
            service: entry.service,
            road: Road::Live,
            work: if is_slow { entry.traffic.slow } else { Duration::ZERO },
            timeout: entry.traffic.timeout,
            client: Client::Source(source),
            point,
        };
        let sent = self.send(ask, &mut rng);
        if let Some(entry) = self.sources.get_mut(source) {
            entry.rng = rng;
            if let Some(client) = sticky.and_then(|sticky| entry.clients.get_mut(sticky))
                && let Some(to) = sent.to
                && let Some(from) = client.last.replace(to).filter(|from| *from != to)
            {
                *entry.moves.entry((from, to)).or_default() += 1;
            }
        }
        self.schedule_arrival(source);
    }

    /// Counts what became of a request of a load.
    pub(crate) fn count(&mut self, source: usize, answer: &Answer) {
        let now = self.now;
        let Some(source) = self.sources.get_mut(source) else {
            return;
        };
        let place = answer.place.map(|place| place.to_string());
        let tally = &mut source.tally;
        match (&answer.status, &place) {
            (Ok(status), Some(place)) if *status < 500 => tally.answered(place),
            (Ok(status), Some(place)) => {
                tally.answered_badly(now, place, format!("status {status}"));
            }
            (Ok(_), None) => tally.lost(now, None, "answered by nobody"),
            (Err(why), place) => tally.lost(now, place.as_deref(), why.as_str()),
        }
    }
}
