//! The calls that carry secrets, made without bollard.
//!
//! bollard 0.21 writes the bodies of requests and answers to the `log` facade at debug and trace. A container's
//! environment is in the body of its creation and in the answer to its inspection, so those two are made here, and with
//! them the calls that carry a registry's password.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::endpoint::Endpoint;
use super::error::Failure;

/// One call on a connection of its own; `path` begins with the version.
pub(super) async fn call(
    endpoint: &Endpoint,
    method: Method,
    path: &str,
    headers: &[(HeaderName, SecretString)],
    body: Vec<u8>,
    timeout: Duration,
) -> Result<Bytes, Failure> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "docker")
        .header(header::CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        let mut value = HeaderValue::from_str(value.expose_secret())
            .map_err(|error| Failure::Nonsense(error.into()))?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    let request =
        request.body(Full::new(body.into())).map_err(|error| Failure::Nonsense(error.into()))?;
    let exchange = async {
        match endpoint {
            Endpoint::Unix(path) => send(UnixStream::connect(path).await, request).await,
            Endpoint::Tcp(address) => send(TcpStream::connect(address).await, request).await,
        }
    };
    tokio::time::timeout(timeout, exchange).await.map_err(|_| Failure::Silence)?
}

async fn send<S>(
    stream: std::io::Result<S>,
    request: Request<Full<Bytes>>,
) -> Result<Bytes, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broke = |error: hyper::Error| Failure::Connection {
        what: "the connection broke",
        source: error.into(),
    };
    let stream = stream
        .map_err(|error| Failure::Connection { what: "no connection", source: error.into() })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
    // It ends with the sender; its error is the sender's too.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broke)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(broke)?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    #[derive(serde::Deserialize)]
    struct Refusal {
        message: String,
    }
    let message = serde_json::from_slice::<Refusal>(&body)
        .map(|refusal| refusal.message)
        .unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned());
    Err(Failure::Answer { status: status.as_u16(), message })
}
