//! What HAProxy is to be: the wanted state of all services, as it stands in the configuration file.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use deploykit_core::{Error, ErrorKind, Place, Result, Routing, ServiceName, TaskId};
use serde::{Deserialize, Serialize};

use super::frontend::Frontend;

/// How many places a routing can name: what a frontend's rules have room for.
pub(super) const MOST_PLACES: usize = 4;

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
    /// The name of the file that holds the certificate and its key, beside the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<String>,
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
        Self {
            frontend,
            certificate: None,
            routing: Routing::Closed,
            test: None,
            targets: BTreeMap::new(),
        }
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
    pub(super) fn add(
        &mut self,
        name: &ServiceName,
        frontend: &Frontend,
        certificate: Option<String>,
    ) -> Result<()> {
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
        let service =
            self.services.entry(name.clone()).or_insert_with(|| Service::new(frontend.clone()));
        service.frontend = frontend.clone();
        service.certificate = certificate;
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

#[cfg(test)]
mod tests {
    use deploykit_core::Weight;

    use super::super::answers::parse_route;
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
            .add(&ServiceName::new("web").unwrap(), &Frontend::new(80).with_test_port(81), None)
            .unwrap();
        let api = ServiceName::new("api").unwrap();
        let error = model.add(&api, &Frontend::new(81), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.message().contains("api: port 81 is taken by service web"), "{error}");
        model.add(&ServiceName::new("web").unwrap(), &Frontend::new(81), None).unwrap();
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
            let error = Model::default().add(&web, &frontend, None).unwrap_err();
            assert!(error.message().contains("health path"), "{error}");
        }
    }
}
