//! The WebSocket: one at a time, reopened when it ends.

use std::fmt::Display;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::client::{Client, place_of};
use super::report::{What, Why};

/// The pause between two: a service that refuses or closes them at once is not to be flooded.
const PAUSE: Duration = Duration::from_millis(20);

impl Client {
    /// Keeps one WebSocket open, `held` each, until the load is stopped, and records how each ended.
    pub(super) async fn websockets(&self, held: Duration, mut stop: watch::Receiver<()>) {
        loop {
            let start = Instant::now();
            let mut place = None;
            let result = self.websocket(held, &mut stop, &mut place).await;
            let took = start.elapsed();
            self.recorder.record(What::WebSocket, place, took, result);
            // The sender is only ever dropped.
            if timeout(PAUSE, stop.changed()).await.is_ok() {
                return;
            }
        }
    }

    async fn websocket(
        &self,
        held: Duration,
        stop: &mut watch::Receiver<()>,
        place: &mut Option<String>,
    ) -> Result<(), Why> {
        let late = |_| Why::timeout(self.timeout);
        let mut socket =
            timeout(self.timeout, self.open_websocket(place)).await.map_err(late)??;
        tokio::select! {
            end = until_closed(&mut socket) => {
                end?;
                // Its close frame has come; the answer to it is a courtesy.
                let _ = timeout(self.timeout, socket.close(None)).await;
                return Ok(());
            }
            () = sleep(held) => {}
            _ = stop.changed() => {}
        }
        timeout(self.timeout, async {
            socket.close(None).await.map_err(cut)?;
            until_closed(&mut socket).await
        })
        .await
        .map_err(late)?
    }

    async fn open_websocket(
        &self,
        place: &mut Option<String>,
    ) -> Result<WebSocketStream<TcpStream>, Why> {
        let request = self.target.websocket.clone().into_client_request();
        let mut request = request.map_err(websocket)?;
        for (name, value) in &self.target.headers {
            request.headers_mut().insert(name, value.clone());
        }
        match client_async(request, self.connect().await?).await {
            Ok((socket, answer)) => {
                *place = place_of(answer.headers());
                Ok(socket)
            }
            Err(error) => {
                if let WsError::Http(answer) = &error {
                    *place = place_of(answer.headers());
                }
                Err(websocket(format_args!("not opened: {error}")))
            }
        }
    }
}

/// Reads until the peer's close frame; any other end is a failure.
async fn until_closed(socket: &mut WebSocketStream<TcpStream>) -> Result<(), Why> {
    while let Some(message) = socket.next().await {
        if let Message::Close(_) = message.map_err(cut)? {
            return Ok(());
        }
    }
    Err(cut("the stream is over"))
}

fn websocket(detail: impl Display) -> Why {
    Why::new("websocket", detail)
}

fn cut(error: impl Display) -> Why {
    websocket(format_args!("ended without a close frame: {error}"))
}
