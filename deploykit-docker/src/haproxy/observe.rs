//! What HAProxy has of a service, as its workers say.

use std::time::Duration;

use deploykit_core::{
    BalancerState, Entry, Error, ErrorKind, Place, Result, Routing, ServiceName, Target,
    TargetHealth, TaskId,
};
use tokio::time::{Instant, sleep};

use super::answers::{Row, parse_route};
use super::config::{TEST_HEADER, variable};
use super::reconcile::place_of;
use super::runtime::POLL;
use super::{Frontend, HaProxy};

/// So long it is asked again when a worker ends in the middle of it.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn observe(haproxy: &HaProxy, service: &ServiceName) -> Result<BalancerState> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match once(haproxy, service).await {
            Err(error) if error.kind() == ErrorKind::Unavailable && Instant::now() < deadline => {
                sleep(POLL).await;
            }
            seen => return seen,
        }
    }
}

async fn once(haproxy: &HaProxy, service: &ServiceName) -> Result<BalancerState> {
    let runtime = &haproxy.inner.runtime;
    let processes = runtime.processes().await?;
    let current = processes.current;
    let unknown = |what: &str, value: &str| {
        let name = variable(service, what);
        Error::new(ErrorKind::Foreign, format!("HAProxy's variable {name} is {value:?}"))
            .with_hint("somebody else set it; the next change of the service sets it right")
    };
    let Some(route) = runtime.variable(current, &variable(service, "route")).await? else {
        return Ok(BalancerState {
            routing: Routing::Closed,
            test_route: None,
            targets: Vec::new(),
            entry: None,
            test_entry: None,
        });
    };
    let routing = parse_route(&route).ok_or_else(|| unknown("route", &route))?;
    let test = runtime.variable(current, &variable(service, "test")).await?.unwrap_or_default();
    let test_route = match test.as_str() {
        "none" => None,
        place => Some(place.parse::<Place>().map_err(|_| unknown("test", &test))?),
    };
    let mut targets = Vec::new();
    for row in runtime.servers(current).await? {
        if let Some(place) = place_of(&row, service) {
            targets.push(target(place, row));
        }
    }
    for worker in processes.old {
        // What it was answering before the reload is in flight still.
        let rows = match runtime.servers(worker).await {
            Err(error) if runtime.processes().await?.old.contains(&worker) => return Err(error),
            // One that has ended answers nothing.
            rows => rows.unwrap_or_default(),
        };
        for row in rows {
            let Some(place) = place_of(&row, service) else { continue };
            let same = |t: &&mut Target| t.place == place && t.task.as_str() == row.name;
            if let Some(target) = targets.iter_mut().find(same) {
                target.in_flight = target.in_flight.saturating_add(row.in_flight);
            }
        }
    }
    targets.sort_by(|a, b| (a.place, &a.task).cmp(&(b.place, &b.task)));
    let frontend = haproxy.inner.store.load()?.services.remove(service).map(|s| s.frontend);
    let (live_scheme, test_scheme) = frontend.as_ref().map_or(("http", "http"), Frontend::schemes);
    let entry = |scheme, port, headers| {
        let at = haproxy.reached_at(frontend.as_ref()?, port?)?;
        Some(Entry { url: format!("{scheme}://{at}"), headers })
    };
    let live = frontend.as_ref().map(|frontend| frontend.port);
    let test_port = frontend.as_ref().and_then(|frontend| frontend.test_port);
    let header = vec![(TEST_HEADER.to_owned(), service.to_string())];
    let test_entry = match (test_route, test_port) {
        (None, _) => None,
        (Some(_), Some(port)) => entry(test_scheme, Some(port), Vec::new()),
        (Some(_), None) => entry(live_scheme, live, header),
    };
    let entry = entry(live_scheme, live, Vec::new());
    Ok(BalancerState { entry, test_entry, routing, test_route, targets })
}

fn target(place: Place, row: Row) -> Target {
    // `* L7OK` is a check that goes on, with the last one's result.
    let unchecked = matches!(row.check.trim_start_matches("* "), "" | "INI");
    let health = match row.status.as_str() {
        _ if row.weight == 0 => TargetHealth::Draining,
        status if status.starts_with("UP") || status == "no check" => TargetHealth::Healthy,
        status if status.starts_with("DRAIN") || status.starts_with("MAINT") => {
            TargetHealth::Draining
        }
        _ if unchecked => TargetHealth::Starting,
        _ => TargetHealth::Unhealthy,
    };
    Target {
        place,
        task: TaskId::new(row.name),
        address: row.address,
        health,
        in_flight: row.in_flight,
    }
}
