//! A small HTTP server on loopback that remembers what it was asked and answers as it is told.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::{SinkExt, StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

/// What the server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Status(u16),
    /// Closes the connection without a word.
    Reset,
    /// The head comes, the body breaks off.
    Cut,
    Never,
    /// When [`Server::release`] is called.
    Held,
}

/// What the server does with a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Socket {
    /// Stays until the client closes.
    Stays,
    /// Is closed from here at once, with a close frame.
    Closes,
    /// The connection is dropped at once.
    Drops,
    /// Answers no close frame.
    Deaf,
    /// Is not opened.
    Refused,
}

/// A request that has arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: usize,
    pub(crate) connection: usize,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    answer: Answer,
    socket: Socket,
    seen: Mutex<Vec<Seen>>,
    held: tokio::sync::Semaphore,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

impl Server {
    pub(crate) async fn start(answer: Answer, socket: Socket) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            answer,
            socket,
            seen: Mutex::default(),
            held: tokio::sync::Semaphore::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, connection, Arc::clone(&shared)));
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The ordinary and slow requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The greatest number of WebSockets that were open at one time.
    pub(crate) fn most_open(&self) -> usize {
        self.state.most_open.load(Ordering::SeqCst)
    }

    /// Lets go all requests that are [held](Answer::Held), and those to come.
    pub(crate) fn release(&self) {
        self.state.held.close();
    }
}

async fn serve(stream: TcpStream, connection: usize, state: Arc<State>) {
    let service = service_fn(|request| answer(request, connection, Arc::clone(&state)));
    // It fails where a test wants it to.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

type Body = BoxBody<Bytes, io::Error>;

async fn answer(
    mut request: Request<Incoming>,
    connection: usize,
    state: Arc<State>,
) -> io::Result<Response<Body>> {
    if request.uri().path() == "/ws" {
        return Ok(upgrade(request, state));
    }
    let mut body = 0;
    while let Some(frame) = request.body_mut().frame().await {
        body += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    state.seen.lock().unwrap().push(Seen {
        method: request.method().clone(),
        path: request.uri().to_string(),
        headers: request.headers().clone(),
        body,
        connection,
    });
    match state.answer {
        Answer::Status(status) => Ok(text(status)),
        Answer::Reset => Err(io::Error::other("told to")),
        Answer::Cut => {
            let part = stream::iter([Ok(Frame::data(Bytes::from_static(b"part")))]);
            let end = stream::once(async {
                // Meanwhile the part is written.
                tokio::task::yield_now().await;
                Err(io::Error::other("told to"))
            });
            let mut answer = text(200);
            *answer.body_mut() = BodyExt::boxed(StreamBody::new(part.chain(end)));
            Ok(answer)
        }
        Answer::Never => std::future::pending().await,
        Answer::Held => {
            // It is only ever closed.
            let _ = state.held.acquire().await;
            Ok(text(200))
        }
    }
}

/// An answer of place `B`.
fn text(status: u16) -> Response<Body> {
    let body = Full::from("words").map_err(|never: Infallible| match never {});
    let mut answer = Response::new(body.boxed());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer.headers_mut().insert("x-version", "B".parse().unwrap());
    answer
}

fn upgrade(mut request: Request<Incoming>, state: Arc<State>) -> Response<Body> {
    if state.socket == Socket::Refused {
        return text(503);
    }
    let accept = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
    tokio::spawn(async move {
        let stream = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
        let open = state.open.fetch_add(1, Ordering::SeqCst) + 1;
        state.most_open.fetch_max(open, Ordering::SeqCst);
        if state.socket == Socket::Deaf {
            std::future::pending::<()>().await;
        }
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        match state.socket {
            Socket::Drops => {}
            Socket::Closes => {
                let _ = socket.send(Message::Close(None)).await;
                while let Some(Ok(_)) = socket.next().await {}
            }
            _ => while let Some(Ok(_)) = socket.next().await {},
        }
        state.open.fetch_sub(1, Ordering::SeqCst);
    });
    let mut answer = text(101);
    *answer.body_mut() = Full::default().map_err(|never: Infallible| match never {}).boxed();
    let headers = answer.headers_mut();
    headers.insert("connection", "upgrade".parse().unwrap());
    headers.insert("upgrade", "websocket".parse().unwrap());
    headers.insert("sec-websocket-accept", accept.parse().unwrap());
    answer
}
