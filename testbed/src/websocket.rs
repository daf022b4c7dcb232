//! `/ws`: an echo that also speaks on a steady beat, so that a test can see that it lives.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use crate::routes::text;

/// The beat of the `tick N` messages.
const BEAT: Duration = Duration::from_millis(100);

/// Answers the handshake and hands the connection to [`talk`].
pub(crate) fn upgrade(mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(accept) = request
        .headers()
        .get(SEC_WEBSOCKET_KEY)
        .and_then(|key| HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok())
    else {
        return text(StatusCode::BAD_REQUEST, "/ws takes a WebSocket handshake");
    };
    tokio::spawn(async move {
        // It fails only when the client has gone.
        if let Ok(connection) = hyper::upgrade::on(&mut request).await {
            let socket =
                WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, None)
                    .await;
            talk(socket).await;
        }
    });
    let mut answer = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    answer
}

/// Echoes and beats until the client closes. A close frame is answered with one by the library
/// while the stream is read to its end.
async fn talk(mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0_u64;
    let mut open = true;
    loop {
        tokio::select! {
            _ = beat.tick(), if open => {
                count += 1;
                if socket.send(Message::text(format!("tick {count}"))).await.is_err() {
                    return;
                }
            }
            message = socket.next() => match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Close(_))) => open = false,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
        }
    }
}
