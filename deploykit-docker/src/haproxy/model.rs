//! What HAProxy is to be: the wanted state of all services, as it stands in the configuration file.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use deploykit_core::{Error, ErrorKind, Place, Result, Routing, ServiceName, TaskId};
use serde::{Deserialize, Serialize};

/// How many places a routing can name: what a frontend's rules have room for.
pub(super) const MOST_PLACES: usize = 4;

/// How clients reach a service, and how its targets are checked.
///
/// ```
/// use deploykit_docker::Frontend;
/// use std::time::Duration;
///
/// let frontend = Frontend::new(8080)
///     .with_health_path("/health")
///     .with_test_port(8081)
///     .with_idle_timeout(Duration::from_secs(120));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frontend {
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) test_port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) health_path: Option<String>,
    pub(super) idle_timeout: Duration,
}

impl Frontend {
    /// HTTP on this port of HAProxy, on all addresses; targets count as healthy when they accept connections; a connection
    /// may be silent for 60 s while an answer is awaited; testers come with the header `x-deploykit-test: <service>`.
    pub fn new(port: u16) -> Self {
        Self {
            address: Ipv4Addr::UNSPECIFIED,
            port,
            test_port: None,
            health_path: None,
            idle_timeout: Duration::from_secs(60),
        }
    }

    /// Listens on this address only. For a HAProxy that has the machine's own network; in a container with a network of
    /// its own it is [`publish`](super::HaProxyBuilder::publish) that says who can connect.
    #[must_use]
    pub fn with_address(mut self, address: Ipv4Addr) -> Self {
        self.address = address;
        self
    }

    /// Opens the test route on a port of its own instead of by header. Only that port reaches a candidate then, so who
    /// can test is a matter of who can connect to it.
    #[must_use]
    pub fn with_test_port(mut self, port: u16) -> Self {
        self.test_port = Some(port);
        self
    }

    /// Targets count as healthy when they answer GET of this path with 2xx or 3xx.
    #[must_use]
    pub fn with_health_path(mut self, path: impl Into<String>) -> Self {
        self.health_path = Some(path.into());
        self
    }

    /// How long either side of a request may be silent; a WebSocket may be for a day.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Its ports, the live one first.
    pub(super) fn ports(&self) -> impl Iterator<Item = u16> {
        std::iter::once(self.port).chain(self.test_port)
    }

    fn check(&self, service: &ServiceName) -> Result<()> {
        if self.ports().any(|port| port == 0) || self.test_port == Some(self.port) {
            return Err(Error::invalid(format!(
                "service {service}: its ports must be two different ones from 1 to 65535"
            )));
        }
        if self.idle_timeout.is_zero() {
            return Err(Error::invalid(format!("service {service}: the idle timeout is zero")));
        }
        match &self.health_path {
            Some(path) if !is_plain_path(path) => Err(Error::invalid(format!(
                "service {service}: the health path {path:?} is not a plain path"
            ))
            .with_hint("begin with / and use letters, digits and -._~/?&=+,:@ only")),
            _ => Ok(()),
        }
    }
}

/// Nothing that HAProxy's configuration language gives a meaning to.
fn is_plain_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/?&=+,:@".contains(c);
    path.starts_with('/') && path.chars().all(plain)
}

/// The wanted state of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Model {
    /// The user's own lines.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) extra: String,
    pub(super) services: BTreeMap<ServiceName, Service>,
}

/// The wanted state of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Service {
    pub(super) frontend: Frontend,
    pub(super) routing: Routing,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) test: Option<Place>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) targets: BTreeMap<Place, Vec<Server>>,
}

/// One target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Server {
    pub(super) task: TaskId,
    pub(super) address: SocketAddr,
    #[serde(default)]
    pub(super) draining: bool,
}

impl Service {
    pub(super) fn new(frontend: Frontend) -> Self {
        Self { frontend, routing: Routing::Closed, test: None, targets: BTreeMap::new() }
    }

    /// The routing as it stands in HAProxy's variable: the rules' input, changed in one piece.
    ///
    /// `closed`; or `w` (weighted) or `p` (pooled) and [`MOST_PLACES`] pairs of a place and its factor, those that are not
    /// needed having the factor 0.
    pub(super) fn route(&self) -> Result<String> {
        let (kind, pairs): (_, Vec<(Place, u16)>) = match &self.routing {
            Routing::Closed | Routing::None => return Ok("closed".into()),
            Routing::Weighted(weights) => {
                ('w', weights.iter().map(|(place, weight)| (place, weight.get())).collect())
            }
            Routing::Pooled => ('p', self.targets.keys().map(|place| (*place, 1)).collect()),
        };
        if pairs.len() > MOST_PLACES {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("HAProxy: a routing over {} places", pairs.len()),
            )
            .with_hint(format!("at most {MOST_PLACES} places can share the requests")));
        }
        let filled = pairs.into_iter().chain(std::iter::repeat((Place::A, 0))).take(MOST_PLACES);
        Ok(filled
            .fold(kind.to_string(), |text, (place, factor)| format!("{text}:{place}:{factor}")))
    }

    /// The test route as it stands in HAProxy's variable.
    pub(super) fn test_route(&self) -> String {
        self.test.map_or_else(|| "none".into(), |place| place.to_string())
    }
}

impl Model {
    /// The service, or the way to add it.
    pub(super) fn service(&mut self, name: &ServiceName) -> Result<&mut Service> {
        self.services.get_mut(name).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("HAProxy has no frontend for service {name}"))
                .with_hint("add it first: HaProxy::add_service says on which port it listens")
        })
    }

    /// Adds a service, or changes how one is reached; routing and targets stay.
    pub(super) fn add(&mut self, name: &ServiceName, frontend: &Frontend) -> Result<()> {
        frontend.check(name)?;
        for (other, service) in self.services.iter().filter(|(other, _)| *other != name) {
            if let Some(port) = frontend.ports().find(|p| service.frontend.ports().any(|o| o == *p))
            {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("service {name}: port {port} is taken by service {other}"),
                )
                .with_hint("give it another port, or remove the other service"));
            }
        }
        self.services
            .entry(name.clone())
            .and_modify(|service| service.frontend = frontend.clone())
            .or_insert_with(|| Service::new(frontend.clone()));
        Ok(())
    }
}

/// Checks that a task's name can name a server: no character that means something on HAProxy's command line.
pub(super) fn check_task(task: &TaskId) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if task.as_str().is_empty() || !task.as_str().chars().all(plain) {
        return Err(Error::invalid(format!(
            "HAProxy: the task name {:?} cannot be used",
            task.as_str()
        ))
        .with_hint("use letters, digits, '-', '_' and '.'"));
    }
    Ok(())
}

/// Reads the routing back from HAProxy's variable; none for what was not written here.
pub(super) fn parse_route(text: &str) -> Option<Routing> {
    let mut parts = text.split(':');
    match parts.next()? {
        "closed" => Some(Routing::Closed),
        "p" => Some(Routing::Pooled),
        "w" => {
            let mut shares = Vec::new();
            while let Some(place) = parts.next() {
                let weight = parts.next()?.parse::<u16>().ok()?.try_into().ok()?;
                shares.push((place.parse().ok()?, weight));
            }
            // Fillers have the weight 0 and may name a place again.
            shares.retain(|(_, weight)| *weight > deploykit_core::Weight::NONE);
            deploykit_core::Weights::new(shares).ok().map(Routing::Weighted)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use deploykit_core::Weight;

    use super::*;

    #[test]
    fn every_split_reads_back_from_the_variable() {
        let mut service = Service::new(Frontend::new(80));
        for thousandths in 0..=1_000 {
            let weight = Weight::thousandths(thousandths).unwrap();
            service.routing = Routing::split(Place::B, Place::C, weight);
            assert_eq!(parse_route(&service.route().unwrap()), Some(service.routing.clone()));
        }
        assert_eq!(parse_route("w:A:900:B:200"), None);
    }

    #[test]
    fn a_port_of_another_service_is_refused_naming_both() {
        let mut model = Model::default();
        model
            .add(&ServiceName::new("web").unwrap(), &Frontend::new(80).with_test_port(81))
            .unwrap();
        let api = ServiceName::new("api").unwrap();
        let error = model.add(&api, &Frontend::new(81)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.message().contains("api: port 81 is taken by service web"), "{error}");
        model.add(&ServiceName::new("web").unwrap(), &Frontend::new(81)).unwrap();
    }

    #[test]
    fn what_could_smuggle_commands_or_configuration_is_refused() {
        for task in ["", "a b", "a;shutdown", "a\nb", "ä", "a/b"] {
            assert!(check_task(&TaskId::new(task)).is_err(), "{task:?}");
        }
        let web = ServiceName::new("web").unwrap();
        for path in ["health", "/a b", "/a\"", "/$HOME", "/a\nserver x 1.1.1.1:1", "/%[src]", "/#"]
        {
            let frontend = Frontend::new(80).with_health_path(path);
            let error = Model::default().add(&web, &frontend).unwrap_err();
            assert!(error.message().contains("health path"), "{error}");
        }
    }
}
