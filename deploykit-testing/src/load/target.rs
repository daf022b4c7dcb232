//! Where the load goes: the user's strings, checked once before anything is sent.

use std::net::SocketAddr;

use deploykit_core::{Error, ErrorKind, Result};
use hyper::Uri;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::http::uri::{InvalidUri, PathAndQuery};

use super::Load;

const SLOW: PathAndQuery = PathAndQuery::from_static("/slow?ms=2000");

#[derive(Debug)]
pub(super) struct Target {
    pub(super) addresses: Vec<SocketAddr>,
    /// The host and the user's own, on every request.
    pub(super) headers: HeaderMap,
    pub(super) path: PathAndQuery,
    /// None when there are no slow requests.
    pub(super) slow: Option<PathAndQuery>,
    /// The whole address, as the handshake wants it.
    pub(super) websocket: Uri,
}

impl Target {
    pub(super) async fn resolve(load: &Load) -> Result<Self> {
        if load.rate == 0 {
            return Err(Error::invalid("the load's rate is 0")
                .with_hint("give at least one request per second"));
        }
        // Whatever stands before an @ may be a password, and is not shown.
        let shown = load.url.rsplit('@').next().unwrap_or_default();
        let bad_url = || {
            Error::invalid(format!("the load's URL {shown:?} cannot be used"))
                .with_hint("give one like http://127.0.0.1:8080; credentials go in a header")
        };
        let url: Result<Uri, InvalidUri> = load.url.parse();
        let url = url.map_err(|error| bad_url().with_source(error))?;
        let authority = url.authority().ok_or_else(bad_url)?;
        if url.scheme_str() != Some("http") || authority.as_str().contains('@') {
            return Err(bad_url());
        }
        let path = load.path.as_deref();
        let path = path.unwrap_or(url.path_and_query().map_or("/", PathAndQuery::as_str));
        let slash = path.starts_with('/');
        let path = path.parse().ok().filter(|_| slash).ok_or_else(|| {
            Error::invalid(format!("the load's path {path:?} cannot be used"))
                .with_hint("give one that begins with / and is percent-encoded")
        })?;
        let websocket = format!("ws://{authority}/ws");
        let websocket = websocket.parse().map_err(|_| bad_url())?;

        let mut headers = HeaderMap::new();
        let host = [("host".to_owned(), authority.to_string())];
        for (name, value) in host.iter().chain(&load.headers) {
            let (name, value) = header(name, value)?;
            headers.insert(name, value);
        }
        let slow = load.slow.then_some(SLOW);
        let addresses = addresses(authority.host(), authority.port_u16().unwrap_or(80)).await?;
        Ok(Self { addresses, headers, path, slow, websocket })
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    // The value is not shown: it may be a secret.
    let unusable =
        |hint| Error::invalid(format!("the load's header {name:?} cannot be used")).with_hint(hint);
    let name: HeaderName =
        name.parse().map_err(|_| unusable("names are letters, digits and hyphens"))?;
    if [CONNECTION, CONTENT_LENGTH, UPGRADE].contains(&name) {
        return Err(unusable("leave it out: the load sets it itself"));
    }
    let mut value: HeaderValue =
        value.parse().map_err(|_| unusable("leave control characters out of its value"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let unknown = || {
        let message = format!("the load's host {host:?} has no address");
        Error::new(ErrorKind::NotFound, message).with_hint("check its spelling, or give an address")
    };
    let found = tokio::net::lookup_host(format!("{host}:{port}")).await;
    let found: Vec<SocketAddr> = found.map_err(|error| unknown().with_source(error))?.collect();
    if found.is_empty() {
        return Err(unknown());
    }
    Ok(found)
}
