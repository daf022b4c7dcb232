use std::fmt;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use reqwest::header::HeaderMap;
use reqwest::{Client, Url};
use tokio::time::{Instant, timeout};

use crate::client::{Http, body, deepest, redirected};
use crate::error::{Error, Result};
use crate::provider::{Entry, GateContext, HealthGate, Measurement};
use crate::time::human;

/// How much of a body is read and searched, in bytes. All of it is taken from the connection where possible: an answer that
/// is left lying looks like a broken client to the service.
const LONGEST_BODY: usize = 1 << 20;

/// Asks a path by `GET` and looks at status, latency and body.
///
/// By default it asks over the test route, which reaches only the candidate; [`live`](Self::live) and
/// [`each_target`](Self::each_target) ask elsewhere. A connection that fails, an answer that breaks off or none within
/// the time-out is a failure of the candidate, as is an answer that is not as expected.
///
/// Each request has a connection of its own, so that one that went stale in a pool is not taken for a failure;
/// redirects are not followed, and no proxy is used. Values of headers, bodies and the query of the path are never in
/// evidence or `Debug`.
///
/// It does real I/O, which does not fit paused virtual time: in the testing crate's world use that crate's gates or
/// [`gate_fn`](crate::gate_fn).
///
/// ```
/// use std::time::Duration;
/// use deploykit_core::HttpGate;
///
/// let gate = HttpGate::new("/health")
///     .with_status(200..300)
///     .with_body_containing("\"ok\"")
///     .with_max_latency(Duration::from_millis(250));
/// # let _ = gate;
/// ```
///
/// # Errors
/// [`measure`](HealthGate::measure) returns `Invalid` for a path or header that cannot be one, and when there is nowhere to
/// ask: no test route is open, or the service has no balancer, or it does not speak HTTP; or when the gate does not trust the
/// balancer's certificate. Then nothing was measured.
#[derive(Clone)]
pub struct HttpGate {
    path: String,
    whom: Whom,
    http: Http,
    status: Range<u16>,
    body: Option<String>,
    max_latency: Option<Duration>,
    timeout: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Whom {
    TestRoute,
    Live,
    EachTarget,
}

impl HttpGate {
    /// Asks this path over the test route; expects a status from 200 to 399, and an answer within 4 s.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            whom: Whom::TestRoute,
            http: Http::default(),
            status: 200..400,
            body: None,
            max_latency: None,
            // Below the 5 s of a judge by default: then silence is a failure, not an inconclusive measurement.
            timeout: Duration::from_secs(4),
        }
    }

    /// Asks as live requests do: the answer comes from whatever the routing picks.
    #[must_use]
    pub fn live(mut self) -> Self {
        self.whom = Whom::Live;
        self
    }

    /// Asks every target of the candidate directly, by plain HTTP and all at once; the deployer must be able to reach
    /// them.
    #[must_use]
    pub fn each_target(mut self) -> Self {
        self.whom = Whom::EachTarget;
        self
    }

    /// Uses this client, with its certificates, proxies and pool.
    ///
    /// It must be built with `redirect::Policy::none()`; an answer to which it was redirected is no measurement.
    #[must_use]
    pub fn with_client(mut self, client: Client) -> Self {
        self.http.use_client(client);
        self
    }

    /// Sends a header. Those that lead to the test route win over one of the same name.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.http.add_header(name.into(), value.into());
        self
    }

    /// Sets which statuses are good; the end is not one of them.
    #[must_use]
    pub fn with_status(mut self, status: Range<u16>) -> Self {
        self.status = status;
        self
    }

    /// Expects this text in the first MiB of the body.
    #[must_use]
    pub fn with_body_containing(mut self, text: impl Into<String>) -> Self {
        self.body = Some(text.into());
        self
    }

    /// Sets how long a good answer may take, from before connecting until the whole body is there.
    #[must_use]
    pub fn with_max_latency(mut self, latency: Duration) -> Self {
        self.max_latency = Some(latency);
        self
    }

    /// Sets how long an answer is waited for. Keep it below the judge's time-out, or silence is inconclusive instead of
    /// a failure.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What is asked, for people: the query may hold a key.
    fn what(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("GET {path}")
    }

    fn headers(&self, entry: Option<&Entry>) -> Result<HeaderMap> {
        let route = entry.map(|entry| entry.headers.as_slice()).unwrap_or_default();
        self.http.headers(&self.what(), route)
    }

    fn url(&self, base: &str) -> Result<Url> {
        let wrong = |why: String| Error::invalid(format!("{}: {why}", self.what()));
        if !self.path.starts_with('/') {
            return Err(wrong("the path does not begin with /".to_owned()));
        }
        Url::parse(&format!("{}{}", base.trim_end_matches('/'), self.path))
            .map_err(|why| wrong(format!("{base} and the path make no URL: {why}")))
    }

    /// Asks one URL. `what` is how evidence calls it.
    async fn ask(&self, what: &str, url: Url, headers: HeaderMap) -> Result<Measurement> {
        let began = Instant::now();
        let request = self.http.client()?.get(url.clone()).headers(headers);
        let answer = async {
            let response = request.send().await?;
            let (status, from) = (response.status().as_u16(), response.url().clone());
            Ok((status, from, body(response, LONGEST_BODY).await))
        };
        let (status, from, body) = match timeout(self.timeout, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return self.not_answered(what, why),
            Err(_) => {
                let within = human(self.timeout);
                return Ok(Measurement::fail(format!("{what} had no answer within {within}")));
            }
        };
        let took = began.elapsed();
        if from != url {
            return Err(redirected(what));
        }
        let seen = format!("{what} answered {status} in {}", human(took));
        let body = match body {
            Ok(body) => body,
            Err(why) => {
                let why = deepest(&why);
                return Ok(Measurement::fail(format!("{seen} and then broke off: {why}")));
            }
        };
        if !self.status.contains(&status) {
            return Ok(Measurement::fail(seen));
        }
        if let Some(most) = self.max_latency
            && took > most
        {
            return Ok(Measurement::fail(format!("{seen}, slower than {}", human(most))));
        }
        if let Some(text) = &self.body
            && !String::from_utf8_lossy(&body).contains(text)
        {
            return Ok(Measurement::fail(format!("{seen} without {text:?} in its body")));
        }
        Ok(Measurement::pass(seen))
    }

    fn not_answered(&self, what: &str, why: reqwest::Error) -> Result<Measurement> {
        let text = deepest(&why);
        if why.is_builder() {
            return Err(Error::invalid(format!("{what} cannot be asked: {text}")));
        }
        if why.is_redirect() {
            return Err(redirected(what));
        }
        // How rustls begins to say it. Whom the gate trusts is its own affair, and no fault of the version.
        if text.starts_with("invalid peer certificate") {
            return Err(Error::invalid(format!("{what}: {text}")).with_hint(
                "give the gate a client that trusts it by with_client, or ask over a plain test port",
            ));
        }
        Ok(Measurement::fail(format!("{what} had no answer: {text}")))
    }

    async fn ask_entry(&self, entry: &Entry) -> Result<Measurement> {
        if !entry.url.starts_with("http") {
            return Err(self.nowhere(
                &format!("the service is reached at {}, which does not speak HTTP", entry.url),
                "connect with TcpGate, or ask each_target() if its tasks do speak HTTP",
            ));
        }
        let (url, headers) = (self.url(&entry.url)?, self.headers(Some(entry))?);
        self.ask(&self.what(), url, headers).await
    }

    async fn ask_target(&self, target: &str) -> Result<Measurement> {
        let what = format!("{} at {target}", self.what());
        let url = self.url(&format!("http://{target}"))?;
        self.ask(&what, url, self.headers(None)?).await
    }

    fn nowhere(&self, why: &str, hint: &str) -> Error {
        Error::invalid(format!("{}: {why}", self.what())).with_hint(hint)
    }
}

#[async_trait]
impl HealthGate for HttpGate {
    async fn measure(&self, context: &GateContext) -> Result<Measurement> {
        match self.whom {
            Whom::TestRoute => match &context.test_entry {
                Some(entry) => self.ask_entry(entry).await,
                None => Err(self.nowhere(
                    "it asks over the test route, and none is open",
                    "use it at a step while the test route is open, or ask live() or each_target()",
                )),
            },
            Whom::Live => match &context.entry {
                Some(entry) => self.ask_entry(entry).await,
                None => Err(self.nowhere(
                    "it asks as live requests do, and the service has no balancer that tells how",
                    "ask each_target()",
                )),
            },
            Whom::EachTarget => {
                let all = context.targets.iter().map(|target| self.ask_target(target));
                Ok(Measurement::of_targets(&self.what(), &try_join_all(all).await?))
            }
        }
    }
}

impl fmt::Debug for HttpGate {
    /// Values of headers and the query may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpGate")
            .field("what", &self.what())
            .field("whom", &self.whom)
            .field("headers", &self.http)
            .field("status", &self.status)
            .field("body", &self.body)
            .field("max_latency", &self.max_latency)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
