//! One request, on a kept or a new connection. Nothing here tries twice.

use std::error::Error as StdError;
use std::io;
use std::net::TcpStream as StdStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, HeaderMap, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::report::{Recorder, What, Why};
use super::target::Target;

/// What a POST sends.
const BODY: &[u8] = &[b'x'; 512];

/// An idle connection is not used after this time: five seconds is the shortest time after which common servers close
/// one (Node's `keepAliveTimeout`, Apache's `KeepAliveTimeout`), and a request must not cross that.
const IDLE: Duration = Duration::from_secs(2);

/// How long a new connection is left for its peer to close.
const LINGER: Duration = Duration::from_secs(1);

/// What is asked, and over which connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shot {
    post: bool,
    keep: bool,
    slow: bool,
}

impl Shot {
    /// Methods and connections alternate through their four combinations; one in each twenty is slow, each time another
    /// one, so that all four get slow ones.
    pub(super) fn numbered(number: u64) -> Self {
        Self {
            post: number % 2 == 1,
            keep: number / 2 % 2 == 1,
            slow: number % 20 == number / 20 % 20,
        }
    }
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) target: Target,
    pub(super) timeout: Duration,
    pub(super) recorder: Arc<Recorder>,
    /// The last one in is the first one out, so that few are kept and those stay warm.
    idle: Mutex<Vec<Wire>>,
}

/// A connection, with a second handle on its socket if it is to be kept.
#[derive(Debug)]
struct Wire {
    send: SendRequest<Full<Bytes>>,
    socket: Option<StdStream>,
    since: Instant,
}

impl Wire {
    /// The socket itself is asked: the runtime hears later that the peer has closed it. Whatever is there to read means
    /// that the connection is over, be it the end of the stream or words that nobody asked for.
    fn is_usable(&self) -> bool {
        let quiet = |socket: &StdStream| matches!(socket.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.since.elapsed() < IDLE
            && self.send.is_ready()
            && self.socket.as_ref().is_some_and(quiet)
    }
}

impl Client {
    pub(super) fn new(target: Target, timeout: Duration, recorder: Arc<Recorder>) -> Self {
        Self { target, timeout, recorder, idle: Mutex::default() }
    }

    /// Sends one request and records how it ended.
    pub(super) async fn send(&self, shot: Shot) {
        let start = Instant::now();
        let kept = if shot.keep { self.take_idle() } else { None };
        let what = What::Request {
            post: shot.post,
            slow: shot.slow && self.target.slow.is_some(),
            reused: kept.is_some(),
        };
        let mut place = None;
        let exchange = timeout(self.timeout, self.exchange(shot, kept, &mut place)).await;
        let exchange = exchange.unwrap_or_else(|_| Err(Why::timeout(self.timeout)));
        let (result, used) = match exchange {
            Ok(wire) => (Ok(()), Some(wire)),
            Err(why) => (Err(why), None),
        };
        self.recorder.record(what, place, start.elapsed(), result);

        // After the count: whether the connection can go on is no matter of this request.
        if let Some(mut wire) = used
            && wire.socket.is_some()
            && wire.send.ready().await.is_ok()
        {
            wire.since = Instant::now();
            self.idle().push(wire);
        }
    }

    /// From the connection to the end of the body; `place` is filled as soon as the answer begins.
    async fn exchange(
        &self,
        shot: Shot,
        kept: Option<Wire>,
        place: &mut Option<String>,
    ) -> Result<Wire, Why> {
        let mut wire = match kept {
            Some(wire) => wire,
            None => self.open(shot.keep).await?,
        };
        let sent = wire.send.send_request(self.request(shot));
        let answer = sent.await.map_err(reset)?;
        *place = place_of(answer.headers());
        let status = answer.status();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(reset)?;
        }
        if status.as_u16() >= 500 {
            return Err(Why::new("status", format_args!("answered {status}")));
        }
        Ok(wire)
    }

    fn take_idle(&self) -> Option<Wire> {
        let mut idle = self.idle();
        std::iter::from_fn(|| idle.pop()).find(Wire::is_usable)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Wire>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self, keep: bool) -> Result<Wire, Why> {
        let stream = self.connect().await?.into_std().map_err(connect)?;
        let socket = keep.then(|| stream.try_clone()).transpose();
        let socket = socket.map_err(connect)?;
        let stream = TcpStream::from_std(stream).map_err(connect)?;
        let (send, wire) = http1::handshake(TokioIo::new(stream)).await.map_err(reset)?;
        // It ends with the sender; its errors reach the request that they concern.
        tokio::spawn(async move {
            if let Ok(parts) = wire.without_shutdown().await {
                // The side that closes first holds the port for another minute, and this side would run out of them. So
                // the peer, which `connection: close` has told to close, is left a moment to do it.
                let _ = timeout(LINGER, parts.io.into_inner().readable()).await;
            }
        });
        let since = Instant::now();
        Ok(Wire { send, socket, since })
    }

    pub(super) async fn connect(&self) -> Result<TcpStream, Why> {
        let stream = TcpStream::connect(&*self.target.addresses).await;
        let stream = stream.map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        Ok(stream)
    }

    fn request(&self, shot: Shot) -> Request<Full<Bytes>> {
        let path = match &self.target.slow {
            Some(slow) if shot.slow => slow,
            _ => &self.target.path,
        };
        let body = if shot.post { BODY } else { &[] };
        let mut request = Request::new(Full::new(Bytes::from_static(body)));
        *request.method_mut() = if shot.post { Method::POST } else { Method::GET };
        *request.uri_mut() = Uri::from(path.clone());
        *request.headers_mut() = self.target.headers.clone();
        if !shot.keep {
            let close = HeaderValue::from_static("close");
            request.headers_mut().insert(CONNECTION, close);
        }
        request
    }
}

/// The place that an answer names.
pub(super) fn place_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("x-version")?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn connect(error: io::Error) -> Why {
    Why::new("connect", error)
}

fn reset(error: hyper::Error) -> Why {
    match error.source() {
        Some(cause) => Why::new("reset", format_args!("{error}: {cause}")),
        None => Why::new("reset", error),
    }
}
