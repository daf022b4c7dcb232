//! A gate that asks services of the world.

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use deploykit_core::{Error, GateContext, HealthGate, Measurement, Result};

use crate::calls::Operation;
use crate::requests::{Answer, Ask, Client, Road};
use crate::state::{Service, State};
use crate::world::World;

/// Measures a service of a [`World`] by one request, as the HTTP gate measures a real one, or by one connection, as the TCP
/// gate does.
///
/// It asks the candidate over the test route, and says nothing while none is open; [`live`](Self::live) and
/// [`each_target`](Self::each_target) ask elsewhere. A request passes on an answer with a status from 200 to 399, a
/// connection when it is made, however long that took. No answer is a failure.
///
/// # Errors
/// [`measure`](HealthGate::measure) returns `Invalid` for requests to a TCP service.
#[derive(Clone, Debug)]
#[must_use]
pub struct WorldGate {
    world: World,
    /// What is asked for; none for a connection.
    path: Option<String>,
    whom: Whom,
    statuses: Range<u16>,
    max_latency: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
enum Whom {
    TestRoute,
    Live,
    EachTarget,
}

impl WorldGate {
    pub(crate) const fn new(world: World, path: Option<String>) -> Self {
        Self { world, path, whom: Whom::TestRoute, statuses: 200..400, max_latency: None }
    }

    /// Asks over the live entry instead, where whoever has the routing's shares answers. To the service that is a live
    /// request like any other.
    pub fn live(mut self) -> Self {
        self.whom = Whom::Live;
        self
    }

    /// Asks every target of the candidate directly and all at once, past the balancer; to the service that is no live
    /// request. The worst answer counts, and without a target the measurement says nothing.
    pub fn each_target(mut self) -> Self {
        self.whom = Whom::EachTarget;
        self
    }

    /// Sets which statuses are good. A connection has none.
    pub fn with_status(mut self, statuses: Range<u16>) -> Self {
        self.statuses = statuses;
        self
    }

    /// Sets how long a good answer may take.
    pub fn with_max_latency(mut self, latency: Duration) -> Self {
        self.max_latency = Some(latency);
        self
    }

    fn what(&self) -> String {
        self.path.as_ref().map_or_else(|| "a connection".to_owned(), |path| format!("GET {path}"))
    }

    /// The ways to whomever it asks, with words for each.
    fn roads(&self, context: &GateContext, service: &Service) -> Vec<(String, Road)> {
        match self.whom {
            Whom::TestRoute => vec![("over the test route".to_owned(), Road::Test)],
            Whom::Live => vec![("over the live entry".to_owned(), Road::Live)],
            Whom::EachTarget => {
                let to =
                    |target: &String| (format!("at {target}"), Road::Task(service.task_at(target)));
                context.targets.iter().map(to).collect()
            }
        }
    }

    fn judge(&self, road: &str, answer: Option<&Answer>) -> Measurement {
        let asked = format!("{} {road}", self.what());
        let Some(answer) = answer else {
            return Measurement::inconclusive(format!("{asked} was not answered yet"));
        };
        let took = answer.took.as_millis();
        let by = answer.place.map_or_else(String::new, |place| format!(" from {place}"));
        match &answer.status {
            Err(why) => Measurement::fail(format!("{asked}: {why}{by}")),
            Ok(status) => {
                let evidence = match self.path {
                    Some(_) => format!("{asked} answered {status} in {took} ms{by}"),
                    None => format!("{asked} was made in {took} ms{by}"),
                };
                let slow = self.max_latency.filter(|max| answer.took > *max);
                match slow {
                    _ if self.path.is_some() && !self.statuses.contains(status) => {
                        Measurement::fail(evidence)
                    }
                    Some(max) => Measurement::fail(format!(
                        "{evidence}, which is over {} ms",
                        max.as_millis()
                    )),
                    None => Measurement::pass(evidence),
                }
            }
        }
    }
}

#[async_trait]
impl HealthGate for WorldGate {
    async fn measure(&self, context: &GateContext) -> Result<Measurement> {
        let entry = context.entry.as_ref().or(context.test_entry.as_ref());
        if self.path.is_some() && entry.is_some_and(|entry| entry.url.starts_with("tcp:")) {
            let what = format!("{} is a TCP service, which answers no requests", context.service);
            return Err(Error::invalid(what).with_hint("measure it with World::tcp_gate"));
        }
        let missing = match self.whom {
            Whom::Live if context.entry.is_none() => Some("there is no live entry"),
            Whom::TestRoute if context.test_entry.is_none() => Some("no test route is open"),
            Whom::Live | Whom::TestRoute | Whom::EachTarget => None,
        };
        if let Some(missing) = missing {
            return Ok(Measurement::inconclusive(missing));
        }
        let mut asked = Vec::new();
        let ask = |state: &mut State| {
            let service = state.find_or_add(&context.service);
            let roads = state.services.get(service).map(|found| self.roads(context, found));
            let mut due = state.now;
            for (words, road) in roads.unwrap_or_default() {
                let answer = Arc::new(OnceLock::new());
                let ask = Ask {
                    service,
                    road,
                    work: Duration::ZERO,
                    // Whoever measures stops waiting by himself.
                    timeout: Duration::MAX,
                    client: Client::Asker(Arc::clone(&answer)),
                    point: None,
                };
                let mut rng = state.rng;
                due = due.max(state.send(ask, &mut rng).due);
                state.rng = rng;
                asked.push((words, answer));
            }
            Ok(due)
        };
        let due =
            self.world.call(Operation::Measure, Some(&context.service), String::new, ask).await?;
        self.world.until(due).await;
        // Lets the answers arrive.
        drop(self.world.lock());
        let measured: Vec<_> =
            asked.iter().map(|(road, answer)| self.judge(road, answer.get())).collect();
        Ok(Measurement::of_targets(&self.what(), &measured))
    }
}
