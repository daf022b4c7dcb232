//! How clients reach a service.

use std::net::Ipv4Addr;
use std::time::Duration;

use deploykit_core::{Error, ErrorKind, Result, ServiceName};
use serde::{Deserialize, Serialize};

use super::certificate::Certificate;
use super::sticky::Sticky;

/// How clients reach a service, and how its targets are checked.
///
/// ```
/// use deploykit_docker::Frontend;
/// use std::time::Duration;
///
/// let web = Frontend::new(8080)
///     .with_health_path("/health")
///     .with_test_port(8081)
///     .with_idle_timeout(Duration::from_secs(120));
/// let database = Frontend::tcp(5432).with_test_port(5433);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frontend {
    #[serde(default, skip_serializing_if = "Protocol::is_http")]
    pub(super) protocol: Protocol,
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) test_port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) health_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<Certificate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sticky: Option<Sticky>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) unpublished: bool,
    pub(super) idle_timeout: Duration,
}

/// What HAProxy understands of what it passes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Protocol {
    #[default]
    Http,
    Tcp,
}

impl Protocol {
    /// HAProxy's name of it, and the scheme of an entry.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }

    /// What begins a rule about one request or one connection.
    pub(super) const fn rule(self) -> &'static str {
        match self {
            Self::Http => "http-request",
            Self::Tcp => "tcp-request content",
        }
    }

    fn is_http(&self) -> bool {
        *self == Self::Http
    }
}

impl Frontend {
    /// HTTP on this port of HAProxy, on all addresses; targets count as healthy when they accept connections; a connection
    /// may be silent for 60 s while an answer is awaited; testers come with the header `x-deploykit-test: <service>`.
    pub fn new(port: u16) -> Self {
        Self {
            protocol: Protocol::Http,
            address: Ipv4Addr::UNSPECIFIED,
            port,
            test_port: None,
            health_path: None,
            tls: None,
            sticky: None,
            unpublished: false,
            idle_timeout: Duration::from_secs(60),
        }
    }

    /// Connections on this port of HAProxy, whatever is spoken on them: a database, a broker, or TLS that the service
    /// itself terminates. Each goes to one task, and stays there until either side ends it; it may be silent for a day.
    ///
    /// What is a request elsewhere is a connection here: shares are shares of new connections, and a task has drained when
    /// its last connection has ended, or is cut at the drain's deadline. There is no test route by header: give it a
    /// port, by [`with_test_port`](Self::with_test_port).
    pub fn tcp(port: u16) -> Self {
        Self {
            protocol: Protocol::Tcp,
            idle_timeout: Duration::from_secs(24 * 60 * 60),
            ..Self::new(port)
        }
    }

    /// Listens on this address only. For a HAProxy that has the machine's own network; in a container with a network of
    /// its own it is [`publish`](super::HaProxyBuilder::publish) that says who can connect.
    #[must_use]
    pub fn with_address(mut self, address: Ipv4Addr) -> Self {
        self.address = address;
        self
    }

    /// Lets only containers on HAProxy's network reach it, at HAProxy's container; without it a port that HAProxy's container does
    /// not publish is refused, because nobody else could. The deployer's gates cannot, unless a test port is published.
    #[must_use]
    pub fn unpublished(mut self) -> Self {
        self.unpublished = true;
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

    /// Speaks TLS with clients, 1.2 or later, and HTTP/2 with those that can; with the service it speaks plain HTTP/1.1,
    /// and tells it `x-forwarded-proto: https`.
    ///
    /// A test port stays plain, so that no tester needs to trust a certificate that is not for an address: publish it on
    /// loopback only. Without one testers come over TLS, with the header.
    #[must_use]
    pub fn with_tls(mut self, certificate: Certificate) -> Self {
        self.tls = Some(certificate);
        self
    }

    /// Keeps each client with the version that it got, as long as shares do not move away from it; without it each request is
    /// drawn anew.
    #[must_use]
    pub fn with_sticky(mut self, sticky: Sticky) -> Self {
        self.sticky = Some(sticky);
        self
    }

    /// How long either side of a request or a connection may be silent; a WebSocket may be for a day.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Its ports, the live one first.
    pub(super) fn ports(&self) -> impl Iterator<Item = u16> {
        std::iter::once(self.port).chain(self.test_port)
    }

    /// How the URL of its live entry begins, and of the one on the test port.
    pub(super) const fn schemes(&self) -> (&'static str, &'static str) {
        match (self.protocol, &self.tls) {
            (Protocol::Http, Some(_)) => ("https", "http"),
            (protocol, _) => (protocol.name(), protocol.name()),
        }
    }

    /// Whether testers are told by a header.
    pub(super) fn has_test_header(&self) -> bool {
        self.protocol == Protocol::Http && self.test_port.is_none()
    }

    /// Whether it can have a test route.
    pub(super) fn has_test_route(&self) -> bool {
        self.has_test_header() || self.test_port.is_some()
    }

    /// # Errors
    /// `Unsupported` where it can have no test route, with what it lacks.
    pub(super) fn check_test_route(&self, service: &ServiceName) -> Result<()> {
        if self.has_test_route() {
            return Ok(());
        }
        let what =
            format!("service {service}: a TCP service has no test route without a test_port");
        Err(Error::new(ErrorKind::Unsupported, what).with_hint(
            "add it with Frontend::tcp(..).with_test_port(..): a connection carries no header that could tell testers",
        ))
    }

    /// # Errors
    /// `Invalid`, naming service and setting.
    pub(super) fn check(&self, service: &ServiceName) -> Result<()> {
        let wrong = |what: &str| Err(Error::invalid(format!("service {service}: {what}")));
        if self.ports().any(|port| port == 0) || self.test_port == Some(self.port) {
            return wrong("its ports must be two different ones from 1 to 65535");
        }
        if self.idle_timeout.is_zero() {
            return wrong("the idle timeout is zero");
        }
        if let Some(sticky) = &self.sticky {
            if self.protocol == Protocol::Tcp {
                let hint = "leave it out: a connection stays with its task anyway, and carries neither cookie nor header";
                return wrong("a TCP service cannot be sticky")
                    .map_err(|error| error.with_hint(hint));
            }
            sticky.check(service)?;
        }
        if self.tls.is_some() && self.protocol == Protocol::Tcp {
            let hint = "leave it out, and let the service speak TLS itself; or use Frontend::new";
            return wrong("a TCP service has no tls").map_err(|error| error.with_hint(hint));
        }
        match &self.health_path {
            Some(_) if self.protocol == Protocol::Tcp => {
                let hint = "leave it out: a TCP service is healthy when it accepts connections";
                wrong("a TCP service has no health_path").map_err(|error| error.with_hint(hint))
            }
            Some(path) if !is_plain_path(path) => {
                let hint = "begin with / and use letters, digits and -._~/?&=+,:@ only";
                wrong(&format!("the health path {path:?} is not a plain path"))
                    .map_err(|error| error.with_hint(hint))
            }
            _ => Ok(()),
        }
    }
}

/// Nothing that HAProxy's configuration language gives a meaning to.
fn is_plain_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/?&=+,:@".contains(c);
    path.starts_with('/') && path.chars().all(plain)
}
