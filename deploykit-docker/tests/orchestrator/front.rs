//! A socket in front of the Engine's, behind which calls get lost, are refused, or come late.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use deploykit_docker::{Docker, Engine};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::world::World;

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// The Engine never hears of it, and the connection breaks.
    Lost,
    /// It is answered by this.
    Answered(&'static str),
    /// The Engine does it, and half of what it answers arrives.
    Halved,
}

/// Calls that are to fail, each once: what their first line holds, and how.
type Fates = Arc<Mutex<Vec<(&'static str, Fate)>>>;

/// An Engine that fails as it is told to.
pub(crate) struct Front {
    pub(crate) docker: Docker,
    fates: Fates,
    _dir: tempfile::TempDir,
}

impl Front {
    pub(crate) async fn new(world: &World) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        let fates = Fates::default();
        let listener = UnixListener::bind(&socket).unwrap();
        let far = world.docker.engine().address();
        let far = PathBuf::from(far.strip_prefix("unix://").expect("the Engine is local"));
        let of_calls = Arc::clone(&fates);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, far.clone(), Arc::clone(&of_calls)));
            }
        });
        let engine = Engine::connect_to(&format!("unix://{}", socket.display())).await.unwrap();
        let docker = Docker::new(engine).with_network(world.service.as_str());
        Self { docker, fates, _dir: dir }
    }

    /// The next call whose first line holds this.
    pub(crate) fn next(&self, call: &'static str, fate: Fate) {
        self.fates.lock().unwrap().push((call, fate));
    }

    /// Whether all that was to fail has.
    pub(crate) fn is_over(&self) -> bool {
        self.fates.lock().unwrap().is_empty()
    }
}

/// One call: the Engine is told that none follows on its connection.
async fn pass(mut near: UnixStream, far: PathBuf, fates: Fates) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match near.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let line = head.lines().next().unwrap().to_owned();
    let fate = {
        let mut fates = fates.lock().unwrap();
        let found = fates.iter().position(|(call, _)| line.contains(call));
        found.map(|at| fates.remove(at).1)
    };
    match fate {
        Some(Fate::Lost) => return,
        Some(Fate::Answered(answer)) => {
            near.write_all(answer.as_bytes()).await.unwrap();
            return;
        }
        Some(Fate::Halved) | None => {}
    }
    let mut engine = UnixStream::connect(far).await.unwrap();
    let head = head.trim_end();
    engine.write_all(format!("{head}\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    if fate.is_none() {
        tokio::io::copy_bidirectional(&mut near, &mut engine).await.ok();
        return;
    }
    let mut answer = Vec::new();
    engine.read_to_end(&mut answer).await.unwrap();
    near.write_all(&answer[..answer.len() / 2]).await.unwrap();
}
