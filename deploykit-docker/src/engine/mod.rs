//! The connection to a Docker Engine, and the calls that the providers make on it.

mod endpoint;
mod error;
mod inspect;
mod network;
mod raw;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use bollard::models::{ContainerCreateBody, ContainerSummary, EventMessage, ImageInspect};
use bollard::query_parameters::{
    EventsOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, StopContainerOptions, StopContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker as Client};
use deploykit_core::{Error, Result};
use futures::{Stream, TryStreamExt};
use http::{HeaderName, Method};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::logins::{Logins, Proof};
use endpoint::Endpoint;
pub(crate) use endpoint::LONGEST_SOCKET_PATH;
pub(crate) use error::Failure;
pub(crate) use inspect::{Inspected, time};
pub(crate) use network::{Network, attachment};

/// How long an ordinary call may take; the Engine is slow only when the machine is.
const CALL: Duration = Duration::from_secs(60);

/// How long to wait before it is looked again whether somebody else's removal is done.
const AGAIN: Duration = Duration::from_millis(50);

/// How long a pull may take.
const PULL: Duration = Duration::from_secs(900);

/// A connection to one Docker Engine; clones share it.
///
/// Calls speak the API version that both sides know. `Debug` shows the address and the version only.
#[derive(Clone)]
pub struct Engine {
    client: Client,
    endpoint: Endpoint,
    version: String,
    logins: Arc<Logins>,
    /// Held while a network is made or removed.
    networks: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({}, API {})", self.endpoint, self.version)
    }
}

impl Engine {
    /// Connects to the Engine that `DOCKER_HOST` names, else to `/var/run/docker.sock`, and agrees on an API version.
    ///
    /// # Errors
    /// `Unavailable` names the socket that does not answer. `Unsupported` for TLS and ssh, with the way out;
    /// `Invalid` for an address that cannot be read.
    pub async fn connect() -> Result<Self> {
        Self::open(Endpoint::from_env()?).await
    }

    /// Connects to the Engine at `host`: `unix://PATH` or `tcp://HOST[:PORT]`, whatever `DOCKER_HOST` says.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_to(host: &str) -> Result<Self> {
        Self::open(Endpoint::parse(host)?).await
    }

    async fn open(endpoint: Endpoint) -> Result<Self> {
        let failed = |failure: Failure| failure.while_doing("connect", &endpoint);
        let address = endpoint.to_string();
        let client = match &endpoint {
            Endpoint::Unix(_) => {
                Client::connect_with_unix(&address, CALL.as_secs(), API_DEFAULT_VERSION)
            }
            Endpoint::Tcp(_) => {
                Client::connect_with_http(&address, CALL.as_secs(), API_DEFAULT_VERSION)
            }
        };
        let client = client.map_err(|error| failed(error.into()))?;
        let client = client.negotiate_version().await.map_err(|error| failed(error.into()))?;
        let version = client.client_version().to_string();
        tracing::debug!(%endpoint, %version, "connected to the Docker Engine");
        Ok(Self { client, endpoint, version, logins: Arc::default(), networks: Arc::default() })
    }

    /// Sets the credentials with which this Engine asks registries and pulls from them; what `docker login` keeps, by
    /// default. Whoever is given this value afterwards uses them.
    #[must_use]
    pub fn with_logins(mut self, logins: Logins) -> Self {
        self.logins = Arc::new(logins);
        self
    }

    pub(crate) fn logins(&self) -> &Logins {
        &self.logins
    }

    /// The address, as `DOCKER_HOST` would name it.
    pub fn address(&self) -> String {
        self.endpoint.to_string()
    }

    /// The API version that is spoken, such as `1.41`.
    pub fn api_version(&self) -> &str {
        &self.version
    }

    /// bollard's client, for calls that carry no secrets.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn failed(&self, doing: &str, failure: impl Into<Failure>) -> Error {
        failure.into().while_doing(doing, &self.endpoint)
    }

    /// The same for looking and removing: nothing about a release can make the Engine answer 500 to that, so the next
    /// answer may be another one.
    pub(crate) fn failed_now(&self, doing: &str, failure: Failure) -> Error {
        let is_temporary = failure.is(500);
        let error = self.failed(doing, failure);
        if is_temporary { error.with_temporary(true) } else { error }
    }

    /// A call whose request or answer holds secrets; see [`raw`].
    async fn private<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, SecretString)],
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<T, Failure> {
        let path = format!("/v{}{path}", self.version);
        let answer = raw::call(&self.endpoint, method, &path, headers, body, timeout).await?;
        serde_json::from_slice(&answer).map_err(|error| Failure::Nonsense(error.into()))
    }

    /// Every container with all of these `key=value` labels, stopped ones included.
    pub(crate) async fn list(&self, labels: &[String]) -> Result<Vec<ContainerSummary>, Failure> {
        let filters = HashMap::from([("label", labels.to_vec())]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        Ok(self.client.list_containers(Some(options)).await?)
    }

    /// Creates a container and returns its id. The body holds secrets.
    pub(crate) async fn create(
        &self,
        name: &str,
        body: &ContainerCreateBody,
    ) -> Result<String, Failure> {
        #[derive(serde::Deserialize)]
        struct Created {
            #[serde(rename = "Id")]
            id: String,
        }
        let body = serde_json::to_vec(body).map_err(|error| Failure::Nonsense(error.into()))?;
        let path = format!("/containers/create?name={name}");
        let created: Created = self.private(Method::POST, &path, &[], body, CALL).await?;
        Ok(created.id)
    }

    /// What a container is and how it fares; without its environment. `None` where there is none.
    pub(crate) async fn inspect(&self, id: &str) -> Result<Option<Inspected>, Failure> {
        let path = format!("/containers/{id}/json");
        absent_is_none(self.private(Method::GET, &path, &[], Vec::new(), CALL).await)
    }

    /// Starts a container; one that runs is left alone.
    pub(crate) async fn start(&self, id: &str) -> Result<(), Failure> {
        Ok(self.client.start_container(id, None).await?)
    }

    /// SIGTERM, and SIGKILL after the grace period that the container was made with. One that is gone or has ended is fine.
    pub(crate) async fn stop(&self, id: &str) -> Result<(), Failure> {
        // Whoever calls knows the grace period, and bounds it.
        let patient = self.client.clone().with_timeout(PULL);
        let stopped = patient.stop_container(id, None::<StopContainerOptions>).await;
        absent_is_none(stopped.map_err(Failure::from)).map(|_| ())
    }

    /// Removes a container that does not run. One that runs is left alone; one that is gone already is fine.
    pub(crate) async fn remove_idle(&self, id: &str) -> Result<(), Failure> {
        let remove = RemoveContainerOptionsBuilder::new().v(true).build();
        match self.client.remove_container(id, Some(remove)).await.map_err(Failure::from) {
            Err(failure) if failure.is(409) => Ok(()),
            result => absent_is_none(result).map(|_| ()),
        }
    }

    /// SIGTERM, SIGKILL after `grace`, then removal with its anonymous volumes. One that is gone already is fine.
    pub(crate) async fn stop_and_remove(&self, id: &str, grace: Duration) -> Result<(), Failure> {
        let seconds = i32::try_from(whole_seconds(grace)).unwrap_or(i32::MAX);
        let stop = StopContainerOptionsBuilder::new().t(seconds).build();
        let patient = self.client.clone().with_timeout(grace.saturating_add(CALL));
        absent_is_none(patient.stop_container(id, Some(stop)).await.map_err(Failure::from))?;
        self.remove(id).await
    }

    /// Removes a container with its anonymous volumes, killing it if it runs. One that is gone already is fine.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let remove = RemoveContainerOptionsBuilder::new().v(true).force(true).build();
            match self.client.remove_container(id, Some(remove)).await.map_err(Failure::from) {
                // Somebody else is removing it at this moment: the same end, but it is not there yet.
                Err(failure)
                    if failure.is(409)
                        && failure.says("already in progress")
                        && began.elapsed() < CALL =>
                {
                    sleep(AGAIN).await;
                }
                result => return absent_is_none(result).map(|_| ()),
            }
        }
    }

    /// The last lines that a container wrote to its standard streams.
    pub(crate) async fn log_tail(&self, id: &str, lines: usize) -> Result<Vec<String>, Failure> {
        let options =
            LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let chunks: Vec<_> = self.client.logs(id, Some(options)).try_collect().await?;
        let mut text = Vec::new();
        for chunk in chunks {
            text.extend_from_slice(&chunk.into_bytes());
        }
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    /// What happens from now on to containers that carry `label`. Nothing is asked before the stream is first polled;
    /// what happened in the two seconds before that is told again, so that nothing falls into the gap.
    pub(crate) fn events(
        &self,
        label: &str,
    ) -> impl Stream<Item = Result<EventMessage, Failure>> + Send + 'static {
        let kinds =
            ["create", "start", "die", "oom", "destroy", "health_status", "pause", "unpause"];
        let filters = HashMap::from([
            ("type", vec!["container"]),
            ("label", vec![label]),
            ("event", kinds.to_vec()),
        ]);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = since.as_secs().saturating_sub(2).to_string();
        let options = EventsOptionsBuilder::new().since(&since).filters(&filters).build();
        self.client.events(Some(options)).map_err(Failure::from)
    }

    /// What the Engine holds under this reference: a name with a tag or digest, or an image id.
    pub(crate) async fn image(&self, reference: &str) -> Result<Option<ImageInspect>, Failure> {
        absent_is_none(self.client.inspect_image(reference).await.map_err(Failure::from))
    }

    /// The digest under which a registry holds `reference`.
    pub(crate) async fn remote_digest(
        &self,
        reference: &str,
        proof: Option<&Proof>,
    ) -> Result<String, Failure> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Found {
            descriptor: Descriptor,
        }
        #[derive(serde::Deserialize)]
        struct Descriptor {
            digest: String,
        }
        let path = format!("/distribution/{reference}/json");
        let auth = proof.map(auth_header).into_iter().collect::<Vec<_>>();
        let found: Found = self.private(Method::GET, &path, &auth, Vec::new(), CALL).await?;
        Ok(found.descriptor.digest)
    }

    /// An image as a tar archive, which the Engine makes as it is read; `id` is the image's.
    #[cfg(feature = "oci")]
    pub(crate) fn save(
        &self,
        id: &str,
    ) -> impl Stream<Item = Result<bytes::Bytes, Failure>> + Send + 'static {
        // The Engine collects all layers before it sends the first byte.
        let patient = self.client.clone().with_timeout(PULL);
        patient.export_image(id).map_err(Failure::from)
    }

    /// Pulls an image; `reference` has a digest or a tag.
    pub(crate) async fn pull(&self, reference: &str, proof: Option<&Proof>) -> Result<(), Failure> {
        #[derive(serde::Deserialize)]
        struct Line {
            error: Option<String>,
        }
        let path = format!("/v{}/images/create?fromImage={reference}", self.version);
        let auth = proof.map(auth_header).into_iter().collect::<Vec<_>>();
        let answer =
            raw::call(&self.endpoint, Method::POST, &path, &auth, Vec::new(), PULL).await?;
        // The status is sent before the pull begins; its failure is a line of the answer.
        let lines = serde_json::Deserializer::from_slice(&answer).into_iter::<Line>();
        match lines.filter_map(|line| line.ok()?.error).next() {
            Some(message) => Err(Failure::Answer { status: 500, message }),
            None => Ok(()),
        }
    }
}

/// The Engine counts in seconds: rounded up, so that nothing is killed early.
pub(crate) fn whole_seconds(grace: Duration) -> i64 {
    i64::try_from(grace.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX)
}

fn absent_is_none<T>(result: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(failure) if failure.is(404) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// As the Engine's API wants it: JSON in the URL-safe alphabet. (bollard 0.21 uses the other alphabet, with which the
/// Engine drops a password that happens to need one of the two letters in which they differ.)
fn auth_header(proof: &Proof) -> (HeaderName, SecretString) {
    let json = match proof {
        Proof::Password { user, password } => {
            serde_json::json!({ "username": user, "password": password.expose_secret() })
        }
        Proof::Identity(token) => serde_json::json!({ "identitytoken": token.expose_secret() }),
        Proof::Token(token) => serde_json::json!({ "registrytoken": token.expose_secret() }),
    };
    let value = base64::engine::general_purpose::URL_SAFE.encode(json.to_string());
    (HeaderName::from_static("x-registry-auth"), value.into())
}
