use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;
use tokio::time::timeout;

use crate::client::{Http, body, deepest, redirected};
use crate::error::{Error, ErrorKind, Result};
use crate::image::PinnedImage;
use crate::name::{Place, RevisionId, RolloutId, ServiceName};
use crate::provider::{Hook, HookContext, Point};

/// How much of an answer that is an error is told, in bytes.
const TOLD_BYTES: usize = 300;
/// How long the body of an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Posts where the rollout is, as JSON, to a URL. A status from 200 to 299 is success; anything else is an error with the
/// status and the beginning of the body.
///
/// ```json
/// {
///   "point": "ON_UNDO",
///   "service": "web",
///   "rollout": "web-7",
///   "image": { "asked": "registry:5000/web:2", "digest": "sha256:…", "local": false },
///   "sidecars": { "proxy": { "asked": "envoy:1", "digest": "sha256:…", "local": false } },
///   "before": { "asked": "registry:5000/web:1", "digest": "sha256:…", "local": false },
///   "place": "B",
///   "revision": "web:8",
///   "url": "http://127.0.0.1:8080",
///   "test_url": "http://127.0.0.1:8080",
///   "why": "validate: smoke: GET / answered 500 in 3 ms"
/// }
/// ```
///
/// | field | holds |
/// |---|---|
/// | `point` | a [`Point`], as its `Display` writes it |
/// | `service`, `rollout` | their names |
/// | `image`, `sidecars` | what is rolled out, each as a [`PinnedImage`]; no `sidecars` where there are none |
/// | `before` | the image that it replaces; not there before the first deployment |
/// | `place`, `revision` | those of the candidate; the revision is empty before it is registered |
/// | `url`, `test_url` | how live requests, and testers, reach the service; not there without a balancer or test route |
/// | `why` | why it is undone; only at [`Point::OnUndo`] and [`Point::OnUndone`] |
///
/// Fields may be added, none is removed or changes its meaning. Environment variables and secrets of the service are not
/// in it.
///
/// It may be posted more than once, as any [`Hook`]; the plan has the time limit. The URL's path and query, which are a
/// secret with many receivers, and the values of headers are never in errors or `Debug`. Redirects are not followed, and
/// no proxy is used.
///
/// It does real I/O, which does not fit paused virtual time: in the testing crate's world let the time run, or use
/// [`hook_fn`](crate::hook_fn).
///
/// ```
/// use deploykit_core::HttpHook;
///
/// # let token = "t";
/// let hook = HttpHook::post("https://chat.example.org/hooks/deploys")
///     .with_header("authorization", format!("Bearer {token}"));
/// # let _ = hook;
/// ```
///
/// # Errors
/// [`run`](Hook::run) returns `Invalid` for a URL or header that cannot be one, `Unavailable` where nobody answers,
/// `Denied` for the statuses 401 and 403, `Other` for every other status.
#[derive(Clone)]
pub struct HttpHook {
    url: String,
    http: Http,
}

impl HttpHook {
    /// Posts to this URL.
    pub fn post(url: impl Into<String>) -> Self {
        Self { url: url.into(), http: Http::default() }
    }

    /// Uses this client, with its certificates and proxies.
    ///
    /// It must be built with `redirect::Policy::none()`: a request that is redirected is mostly not posted any more.
    #[must_use]
    pub fn with_client(mut self, client: Client) -> Self {
        self.http.use_client(client);
        self
    }

    /// Sends a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.http.add_header(name.into(), value.into());
        self
    }

    /// What is posted to, for people: the path and the query may be secrets.
    fn what(&self) -> String {
        let url = Url::parse(&self.url).ok();
        let host = url.as_ref().and_then(Url::host_str);
        match (host, url.as_ref().and_then(Url::port)) {
            (Some(host), Some(port)) => format!("POST to {host}:{port}"),
            (Some(host), None) => format!("POST to {host}"),
            (None, _) => "POST".to_owned(),
        }
    }
}

/// What is posted.
#[derive(Serialize)]
struct Body<'a> {
    point: Point,
    service: &'a ServiceName,
    rollout: &'a RolloutId,
    image: &'a PinnedImage,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sidecars: &'a BTreeMap<String, PinnedImage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a PinnedImage>,
    place: Place,
    revision: &'a RevisionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    test_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

impl<'a> From<&'a HookContext> for Body<'a> {
    fn from(context: &'a HookContext) -> Self {
        let HookContext { point, why, rollout, release, before } = context;
        Self {
            point: *point,
            service: &rollout.service,
            rollout: &rollout.rollout,
            image: &release.image,
            sidecars: &release.sidecars,
            before: before.as_ref().map(|before| &before.image),
            place: rollout.candidate,
            revision: &rollout.revision,
            url: rollout.entry.as_ref().map(|entry| entry.url.as_str()),
            test_url: rollout.test_entry.as_ref().map(|entry| entry.url.as_str()),
            why: why.as_deref(),
        }
    }
}

#[async_trait]
impl Hook for HttpHook {
    async fn run(&self, context: &HookContext) -> Result<()> {
        let what = self.what();
        let url = Url::parse(&self.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| {
                Error::invalid(format!("{what}: the hook's URL is none"))
                    .with_hint("give a whole one: https://host/path")
            })?;
        let headers = self.http.headers(&what, &[])?;
        let request = self.http.client()?.post(url.clone()).json(&Body::from(context));
        let response = request.headers(headers).send().await.map_err(|why| {
            if why.is_redirect() {
                return redirected(&what);
            }
            let kind = if why.is_builder() { ErrorKind::Invalid } else { ErrorKind::Unavailable };
            Error::new(kind, format!("{what} had no answer: {}", deepest(&why)))
        })?;
        if *response.url() != url {
            return Err(redirected(&what));
        }
        let status = response.status();
        // Read in any case: an answer that is left lying looks like a broken client. The status has told what counts.
        let body = timeout(PATIENCE, body(response, TOLD_BYTES)).await;
        let body = body.ok().and_then(|read| read.ok()).unwrap_or_default();
        if status.is_success() {
            return Ok(());
        }
        let kind = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Denied,
            _ => ErrorKind::Other,
        };
        let body = beginning(&body);
        let told = if body.is_empty() { String::new() } else { format!(": {body}") };
        Err(Error::new(kind, format!("{what} answered {}{told}", status.as_u16())))
    }
}

/// The beginning of a body, fit to be printed in one line.
fn beginning(body: &[u8]) -> String {
    let (kept, cut) = match body.get(..TOLD_BYTES) {
        Some(kept) if body.len() > TOLD_BYTES => (kept, "…"),
        _ => (body, ""),
    };
    let text = String::from_utf8_lossy(kept).replace(char::is_control, " ");
    format!("{}{cut}", text.trim())
}

impl fmt::Debug for HttpHook {
    /// The URL's path and query and the values of headers may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpHook").field("what", &self.what()).field("headers", &self.http).finish()
    }
}
