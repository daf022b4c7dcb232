//! What gates and hooks over HTTP share: the client, headers whose values are never shown, and what went wrong.

use std::error::Error as _;
use std::fmt;
use std::sync::OnceLock;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, redirect};

use crate::error::{Error, ErrorKind, Result};

/// A client, the user's own or one that is made when it is first needed, and the headers that it sends.
#[derive(Clone, Default)]
pub(crate) struct Http {
    client: OnceLock<Client>,
    headers: Vec<(String, String)>,
}

impl Http {
    pub(crate) fn use_client(&mut self, client: Client) {
        self.client = OnceLock::from(client);
    }

    pub(crate) fn add_header(&mut self, name: String, value: String) {
        self.headers.push((name, value));
    }

    /// The client. Ours follows no redirect, uses no proxy, and takes a connection of its own for each request: one that
    /// went stale in a pool is not taken for a failure.
    pub(crate) fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|why| {
                Error::new(ErrorKind::Other, "the HTTP client cannot be made")
                    .with_hint("give one of your own by with_client")
                    .with_source(why)
            })?;
        Ok(self.client.get_or_init(|| client))
    }

    /// The headers of a request, which errors call `what`; `more` win over ours of the same name.
    pub(crate) fn headers(&self, what: &str, more: &[(String, String)]) -> Result<HeaderMap> {
        let mut map = HeaderMap::new();
        for (name, value) in self.headers.iter().chain(more) {
            let wrong = |why: &str| Error::invalid(format!("{what}: header {name:?} {why}"));
            let name = HeaderName::try_from(name).map_err(|_| wrong("is no header name"))?;
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| wrong("has a value that cannot be sent"))?;
            value.set_sensitive(true);
            map.insert(name, value);
        }
        Ok(map)
    }
}

/// The names of the headers; values may be secrets.
impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.headers.iter().map(|(name, _)| name)).finish()
    }
}

/// The error for an answer from elsewhere than was asked.
pub(crate) fn redirected(what: &str) -> Error {
    Error::invalid(format!("{what} was redirected by the client"))
        .with_hint("build it with redirect::Policy::none(), or ask the final path")
}

/// So much of a body.
pub(crate) async fn body(mut response: Response, most: usize) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while body.len() < most
        && let Some(piece) = response.chunk().await?
    {
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// The innermost cause: `connection refused` rather than that there was an error. It does not hold the URL.
pub(crate) fn deepest(why: &reqwest::Error) -> String {
    let mut text = match why.source() {
        Some(_) => String::new(),
        None => "the client gave no reason".to_owned(),
    };
    let mut next = why.source();
    while let Some(cause) = next {
        text = cause.to_string();
        next = cause.source();
    }
    text
}
