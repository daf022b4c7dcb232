//! What the service answers.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode};

use crate::config::{Config, Mode};
use crate::websocket;

/// Requests that carry this header are tests, not traffic: mode `errors` stays good for them.
const TEST_HEADER: &str = "x-deploykit-test";

type Answer = Response<Full<Bytes>>;

/// The state that the answers depend on.
#[derive(Debug)]
pub(crate) struct Service {
    config: Config,
    version: HeaderValue,
    /// Set by the first live request.
    live: AtomicBool,
}

impl Service {
    pub(crate) fn new(config: Config) -> Self {
        let version = HeaderValue::from_str(&config.version)
            .unwrap_or_else(|_| HeaderValue::from_static("unprintable"));
        Self { config, version, live: AtomicBool::new(false) }
    }

    /// Answers one request; the error type says that it always does.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let mut answer = self.route(request).await;
        answer.headers_mut().insert("x-version", self.version.clone());
        Ok(answer)
    }

    async fn route(&self, request: Request<Incoming>) -> Answer {
        if self.is_broken(&request) {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "broken since the first live request");
        }
        if self.config.mode == Mode::Slow {
            tokio::time::sleep(self.config.slow).await;
        }
        let path = request.uri().path().to_owned();
        let query = |name| query(request.uri().query(), name);
        match path.as_str() {
            "/" => self.root(request).await,
            "/health" if self.config.mode == Mode::Unhealthy => {
                text(StatusCode::SERVICE_UNAVAILABLE, "not ready")
            }
            "/health" => text(StatusCode::OK, "ready"),
            "/slow" => match query("ms").unwrap_or("2000").parse() {
                Ok(ms) => {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    self.root(request).await
                }
                Err(_) => text(StatusCode::BAD_REQUEST, "ms is not a whole number"),
            },
            "/ws" => websocket::upgrade(request),
            "/env" => found(query("name").and_then(|name| std::env::var(name).ok())),
            "/file" => found(query("path").and_then(|path| std::fs::read_to_string(path).ok())),
            _ => text(StatusCode::NOT_FOUND, "no such path"),
        }
    }

    /// Mode `errors`: the first live request is still answered, everything after it is 500.
    fn is_broken(&self, request: &Request<Incoming>) -> bool {
        if self.config.mode != Mode::Errors {
            return false;
        }
        let is_live =
            request.uri().path() != "/health" && !request.headers().contains_key(TEST_HEADER);
        if is_live {
            self.live.swap(true, Ordering::Relaxed)
        } else {
            self.live.load(Ordering::Relaxed)
        }
    }

    /// GET says the version; POST reads the whole body and says its length in bytes.
    async fn root(&self, request: Request<Incoming>) -> Answer {
        if request.method() != Method::POST {
            return text(StatusCode::OK, format!("version {}", self.config.version));
        }
        match request.into_body().collect().await {
            Ok(body) => text(StatusCode::OK, body.to_bytes().len().to_string()),
            Err(why) => text(StatusCode::BAD_REQUEST, format!("the body was cut short: {why}")),
        }
    }
}

fn found(value: Option<String>) -> Answer {
    value.map_or_else(
        || text(StatusCode::NOT_FOUND, "not there"),
        |value| text(StatusCode::OK, value),
    )
}

/// The value of `name`, taken literally: nobody here sends escapes.
fn query<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|pair| pair.0 == name)
        .map(|pair| pair.1)
}

/// An answer of plain text.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}
