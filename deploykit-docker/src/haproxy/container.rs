//! The container that HAProxy runs in.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, PortBinding, RestartPolicy,
    RestartPolicyNameEnum,
};
use deploykit_core::{Error, ErrorKind, Result, ServiceName};
use futures::TryStreamExt;

use super::Frontend;
use super::runtime::{POLL, Runtime};
use crate::engine::{Engine, Failure};

/// On HAProxy's container: its name; and beside it what it was created from.
const LABEL: &str = "deploykit.haproxy";
const LABEL_SPEC: &str = "deploykit.haproxy.spec";

/// Where the directories are inside.
pub(super) const CONFIG: &str = "/deploykit/conf";
const SOCKETS: &str = "/deploykit/run";
pub(super) const CONFIG_FILE: &str = "haproxy.cfg";
pub(super) const SOCKET_FILE: &str = "master.sock";

/// The network mode that shares the machine's own network.
const HOST: &str = "host";

const READY: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(10);
const LOG_LINES: usize = 100;

/// What HAProxy marks with that it cannot go on from.
const ALERT: &str = "[ALERT]";

/// What a container is created from; another one is another container.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) network: String,
    pub(super) publish: Vec<Publish>,
    pub(super) config_dir: PathBuf,
    pub(super) socket_dir: PathBuf,
    /// `uid:gid` of whoever may use the socket.
    pub(super) user: String,
}

/// A port of HAProxy made reachable at an address of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publish {
    text: String,
    outside: SocketAddr,
    inside: u16,
}

impl Publish {
    /// `IP:PORT` or `IP:PORT:PORT_OF_HAPROXY`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!("HAProxy: publish {text:?} cannot be read"))
                .with_hint("write IP:PORT or IP:PORT:PORT_OF_HAPROXY, as in 127.0.0.1:8080")
        };
        let mut parts = text.split(':');
        let ip: Ipv4Addr = parts.next().and_then(|ip| ip.parse().ok()).ok_or_else(wrong)?;
        let port: u16 = parts.next().and_then(|port| port.parse().ok()).ok_or_else(wrong)?;
        let inside = parts.next().map_or(Ok(port), |port| port.parse().map_err(|_| wrong()))?;
        if inside == 0 || parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Self { text: text.to_owned(), outside: SocketAddr::from((ip, port)), inside })
    }

    /// The address, port 0 replaced by a free one: the Engine would choose another at each restart.
    fn bound(&self) -> Result<SocketAddr> {
        let free = || std::net::TcpListener::bind(self.outside)?.local_addr();
        if self.outside.port() != 0 {
            return Ok(self.outside);
        }
        free().map_err(|error| {
            Error::new(ErrorKind::Busy, format!("HAProxy: no free port at {}", self.outside.ip()))
                .with_source(error)
        })
    }
}

/// HAProxy's container, running.
#[derive(Debug)]
pub(super) struct Container {
    engine: Engine,
    spec: Spec,
    published: BTreeMap<u16, SocketAddr>,
}

impl Container {
    /// Adopts the container if it is there, else creates it; returns when HAProxy answers, and says whether it was
    /// created. Whoever calls holds the lock.
    pub(super) async fn start(
        engine: Engine,
        spec: Spec,
        runtime: &Runtime,
    ) -> Result<(Self, bool)> {
        let mut this = Self { engine, spec, published: BTreeMap::new() };
        let name = this.container();
        let found = this.inspect().await?;
        if let Some(found) = &found {
            this.check_same(found)?;
            tracing::info!(container = %name, "adopting HAProxy's container");
        } else {
            this.create().await?;
        }
        let created = found.is_none();
        let started = this.engine.start(&name).await;
        if let Err(failure) = started {
            if created {
                this.engine.remove(&name).await.map_err(|f| this.failed("remove", f))?;
            }
            return Err(this.cannot_start(failure));
        }
        if let Err(error) = this.wait(runtime).await {
            if created {
                this.remove().await?;
            }
            return Err(error);
        }
        let found = this.inspect().await?.unwrap_or_default();
        this.published = found.published;
        Ok((this, created))
    }

    fn container(&self) -> String {
        format!("deploykit-haproxy-{}", self.spec.name)
    }

    fn failed(&self, doing: &str, failure: impl Into<Failure>) -> Error {
        self.engine.failed(&format!("{doing} HAProxy's container {}", self.container()), failure)
    }

    /// Everything that cannot be changed without making the container anew, as text.
    fn fingerprint(&self) -> String {
        let spec = &self.spec;
        let publish: Vec<_> = spec.publish.iter().map(|publish| publish.text.as_str()).collect();
        format!(
            "image {}, network {}, publish [{}]{}{}",
            spec.image,
            spec.network,
            publish.join(", "),
            self.state(),
            spec.user
        )
    }

    fn check_same(&self, found: &Found) -> Result<()> {
        let (wanted, name) = (self.fingerprint(), self.container());
        if found.spec.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let there = found.spec.as_deref().unwrap_or("something else");
        let what =
            format!("container {name} is there with other settings: {there}; wanted: {wanted}");
        Err(Error::new(ErrorKind::Busy, what)
            .with_hint(format!("start with its settings or another name; or docker rm -f {name}")))
    }

    /// Two that shared a directory would take each other's socket, and only the last one would be told of changes.
    async fn check_alone(&self) -> Result<()> {
        let state = self.state();
        let all = self.engine.list(&[LABEL.to_owned()]).await;
        for other in all.map_err(|failure| self.failed("look for others like", failure))? {
            let spec = other.labels.and_then(|mut labels| labels.remove(LABEL_SPEC));
            if spec.is_some_and(|spec| spec.contains(&state)) {
                let name = other.names.unwrap_or_default().join(", ");
                let what = format!(
                    "HAProxy {}: container {} uses the same state directory, {}",
                    self.spec.name,
                    name.trim_start_matches('/'),
                    self.spec.config_dir.display()
                );
                return Err(Error::new(ErrorKind::Busy, what)
                    .with_hint("give each its own with HaProxyBuilder::state_dir"));
            }
        }
        Ok(())
    }

    fn state(&self) -> String {
        format!(", state {}, user ", self.spec.config_dir.display())
    }

    async fn create(&self) -> Result<()> {
        let spec = &self.spec;
        self.check_alone().await?;
        self.ensure_image().await?;
        if spec.network != HOST {
            self.engine.ensure_network(&spec.network).await?;
        }
        let mut bindings = HashMap::new();
        for publish in &spec.publish {
            let at = publish.bound()?;
            let binding = PortBinding {
                host_ip: Some(at.ip().to_string()),
                host_port: Some(at.port().to_string()),
            };
            let of_port: &mut Option<Vec<_>> =
                bindings.entry(format!("{}/tcp", publish.inside)).or_default();
            of_port.get_or_insert_default().push(binding);
        }
        let words =
            |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        let (socket, file) = (format!("{SOCKETS}/{SOCKET_FILE},mode,600"), inside_path());
        let body = ContainerCreateBody {
            image: Some(spec.image.clone()),
            user: Some(spec.user.clone()),
            // By name: images differ in where it is and in what their own entry points do.
            entrypoint: words(&["haproxy"]),
            cmd: words(&["-W", "-db", "-S", &socket, "-f", &file]),
            labels: Some(HashMap::from([
                (LABEL.to_owned(), spec.name.clone()),
                (LABEL_SPEC.to_owned(), self.fingerprint()),
            ])),
            // HAProxy ends with its last connection on this one.
            stop_signal: Some("SIGUSR1".into()),
            exposed_ports: Some(bindings.keys().cloned().collect()),
            host_config: Some(HostConfig {
                network_mode: Some(spec.network.clone()),
                port_bindings: Some(bindings),
                // Directories, so that a file that is replaced is seen inside. Z: for this container alone (SELinux).
                binds: Some(vec![
                    format!("{}:{CONFIG}:ro,Z", spec.config_dir.display()),
                    format!("{}:{SOCKETS}:Z", spec.socket_dir.display()),
                ]),
                // As tasks: it comes back after an Engine that was killed.
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::ALWAYS),
                    maximum_retry_count: None,
                }),
                readonly_rootfs: Some(true),
                cap_drop: words(&["ALL"]),
                cap_add: words(&["NET_BIND_SERVICE"]),
                security_opt: words(&["no-new-privileges"]),
                log_config: Some(HostConfigLogConfig {
                    typ: Some("json-file".into()),
                    config: Some(HashMap::from([
                        ("max-size".to_owned(), "10m".to_owned()),
                        ("max-file".to_owned(), "3".to_owned()),
                    ])),
                }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let made = self.engine.create(&self.container(), &body).await;
        made.map(|_| ()).map_err(|failure| self.failed("create", failure))
    }

    async fn ensure_image(&self) -> Result<()> {
        let image = &self.spec.image;
        let there =
            self.engine.image(image).await.map_err(|f| self.failed("look for the image of", f))?;
        if there.is_some() {
            return Ok(());
        }
        let pulled = self.engine.pull(image, None).await;
        pulled.map_err(|failure| {
            let what =
                format!("HAProxy's image {image} is not there and cannot be pulled: {failure}");
            Error::new(ErrorKind::NotFound, what).with_hint(format!(
                "get it with: docker pull {image}; or name another one with HaProxyBuilder::image"
            ))
        })
    }

    fn cannot_start(&self, failure: Failure) -> Error {
        let taken = self.spec.publish.iter().find(|publish| {
            let said = |text: String| failure.says(&text);
            let at = publish.outside;
            (said("already allocated".into()) || said("already in use".into()))
                && (said(format!("{at} ")) || said(format!("{at}:")))
        });
        match taken {
            Some(publish) => {
                let at = publish.outside;
                let what = format!(
                    "port {at}, where HAProxy {} is to be published, is taken",
                    self.spec.name
                );
                Error::new(ErrorKind::Busy, what)
                    .with_hint(format!("find who has it with: ss -ltnp 'sport = :{}'", at.port()))
            }
            None => self.failed("start", failure),
        }
    }

    /// Until the socket answers or the container has ended.
    async fn wait(&self, runtime: &Runtime) -> Result<()> {
        let deadline = tokio::time::Instant::now() + READY;
        loop {
            let answer = runtime.processes().await;
            let Err(error) = answer else { return Ok(()) };
            if !self.inspect().await?.is_some_and(|found| found.running) {
                let what =
                    format!("HAProxy ended as soon as it was started: {}", self.alerts().await);
                return Err(Error::new(ErrorKind::Invalid, what));
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(error);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(super) fn is_on_machine_network(&self) -> bool {
        self.spec.network == HOST
    }

    /// Where clients on this machine reach a port of HAProxy that listens on `address`.
    pub(super) fn reached_at(&self, address: Ipv4Addr, port: u16) -> Option<SocketAddr> {
        let address = if self.is_on_machine_network() {
            SocketAddr::from((address, port))
        } else {
            *self.published.get(&port)?
        };
        Some(here(address))
    }

    /// Refuses a service that nobody could reach, unless that is meant.
    ///
    /// # Errors
    /// `Invalid`, naming service and port.
    pub(super) fn check_published(&self, service: &ServiceName, frontend: &Frontend) -> Result<()> {
        if self.is_on_machine_network() || frontend.unpublished {
            return Ok(());
        }
        let Some(port) = frontend.ports().find(|port| !self.published.contains_key(port)) else {
            return Ok(());
        };
        let (name, network) = (self.container(), &self.spec.network);
        let what = format!(
            "service {service}: container {name} does not publish port {port}, so nobody outside of network {network} \
             would reach it"
        );
        Err(Error::invalid(what).with_hint(format!(
            "remove the container and start HAProxy with publish(\"IP:{port}\"), or say Frontend::unpublished where that is meant"
        )))
    }

    /// Lets HAProxy look at a configuration file in the configuration directory.
    pub(super) async fn validate(&self, file: &Path) -> Result<()> {
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        let file = format!("{CONFIG}/{file}");
        let words = ["haproxy", "-c", "-f", &file];
        // In a container that is paused it would not end.
        let checked = tokio::time::timeout(READY, self.exec(&words)).await;
        let checked = checked.map_err(|_| Failure::Silence).and_then(|c| c.map_err(Failure::from));
        let does_not_run = |why: &str| {
            let name = self.container();
            let what =
                format!("HAProxy's container {name} does not run, or ended meanwhile: {why}");
            Error::new(ErrorKind::Unavailable, what)
                .with_hint(format!("start HAProxy again, or see why it ends: docker logs {name}"))
        };
        let (code, text) = checked.map_err(|failure| match failure {
            Failure::Answer { status: 409, message } => does_not_run(&message),
            failure => self.failed("check a file in", failure),
        })?;
        if code == 0 {
            return Ok(());
        }
        // What HAProxy refuses it says; anything else is said of the attempt to ask it.
        if !text.contains(ALERT) {
            return Err(does_not_run(&format!("exit code {code} {}", text.trim())));
        }
        let what = format!("HAProxy refuses the configuration: {}", alerts(text.lines()));
        Err(Error::invalid(what).with_hint("mend what was given to HaProxyBuilder::extra_config"))
    }

    /// The exit code and what was written.
    async fn exec(&self, words: &[&str]) -> Result<(i64, String), bollard::errors::Error> {
        let client = self.engine.client();
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(words.to_vec()),
            ..CreateExecOptions::default()
        };
        let id = client.create_exec(&self.container(), options).await?.id;
        let mut text = Vec::new();
        if let StartExecResults::Attached { mut output, .. } = client.start_exec(&id, None).await? {
            while let Some(chunk) = output.try_next().await? {
                text.extend_from_slice(&chunk.into_bytes());
            }
        }
        let code = client.inspect_exec(&id).await?.exit_code.unwrap_or(-1);
        Ok((code, String::from_utf8_lossy(&text).into_owned()))
    }

    /// Why the last reload failed, in HAProxy's words.
    pub(super) async fn reload_failure(&self) -> Error {
        let alerts = self.alerts().await;
        let kind =
            if alerts.contains("cannot bind") { ErrorKind::Busy } else { ErrorKind::Invalid };
        Error::new(kind, format!("HAProxy did not take the new configuration: {alerts}"))
            .with_hint("it goes on with the one before")
    }

    async fn alerts(&self) -> String {
        let lines = self.engine.log_tail(&self.container(), LOG_LINES).await.unwrap_or_default();
        let last = lines.iter().rposition(|line| line.contains("Reloading HAProxy")).unwrap_or(0);
        alerts(lines.iter().skip(last).map(String::as_str))
    }

    pub(super) async fn remove(&self) -> Result<()> {
        let removed = self.engine.stop_and_remove(&self.container(), STOP).await;
        removed.map_err(|failure| self.failed("remove", failure))?;
        if self.is_on_machine_network() {
            return Ok(());
        }
        let unused = self.engine.remove_unused_network(&self.spec.network).await;
        unused.map_err(|failure| self.failed("remove the network of", failure))
    }

    async fn inspect(&self) -> Result<Option<Found>> {
        let inspected = self.engine.client().inspect_container(&self.container(), None).await;
        let inspected = match inspected.map_err(Failure::from) {
            Err(failure) if failure.is(404) => return Ok(None),
            inspected => inspected.map_err(|failure| self.failed("look at", failure))?,
        };
        let labels = inspected.config.and_then(|config| config.labels);
        let mut found = Found {
            running: inspected.state.and_then(|state| state.running).unwrap_or(false),
            spec: labels.and_then(|mut labels| labels.remove(LABEL_SPEC)),
            published: BTreeMap::new(),
        };
        let ports = inspected.network_settings.and_then(|settings| settings.ports);
        for (inside, bindings) in ports.unwrap_or_default() {
            let address = bindings.into_iter().flatten().find_map(|binding| {
                let ip: IpAddr = binding.host_ip?.parse().ok()?;
                Some(SocketAddr::new(ip, binding.host_port?.parse().ok()?))
            });
            let inside = inside.trim_end_matches("/tcp").parse().ok();
            found.published.extend(inside.zip(address));
        }
        Ok(Some(found))
    }
}

/// What there is of the container.
#[derive(Debug, Default)]
struct Found {
    running: bool,
    spec: Option<String>,
    published: BTreeMap<u16, SocketAddr>,
}

fn inside_path() -> String {
    format!("{CONFIG}/{CONFIG_FILE}")
}

/// An address to connect to, where `address` is one to listen on.
pub(super) fn here(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        return SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    }
    address
}

/// The alerts among HAProxy's messages, or all where there is none.
fn alerts<'a>(lines: impl Iterator<Item = &'a str> + Clone) -> String {
    let marked: Vec<_> = lines.clone().filter(|line| line.contains(ALERT)).collect();
    if marked.is_empty() { lines.collect::<Vec<_>>().join("; ") } else { marked.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_published_under_the_same_or_another_number() {
        let both = |text| Publish::parse(text).map(|p| (p.outside.to_string(), p.inside)).unwrap();
        assert_eq!(both("127.0.0.1:8080"), ("127.0.0.1:8080".into(), 8080));
        assert_eq!(both("0.0.0.0:80:8080"), ("0.0.0.0:80".into(), 8080));
        for wrong in ["8080", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:1:2:3", "h:1"] {
            let error = Publish::parse(wrong).unwrap_err();
            assert!(error.message().contains(wrong), "{error}");
        }
    }
}
