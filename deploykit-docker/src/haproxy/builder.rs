//! Starting a HAProxy of one's own.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deploykit_core::{Error, ErrorKind, Result, ServiceName};

use super::container::{CONFIG, CONFIG_FILE, Container, Publish, SOCKET_FILE, Spec};
use super::runtime::Runtime;
use super::store::{START, Store, failed};
use super::{Frontend, HaProxy, Inner};
use crate::engine::{Engine, LONGEST_SOCKET_PATH};

/// How HAProxy's container is made; see [`HaProxy::builder`].
///
/// ```no_run
/// # async fn start() -> deploykit_core::Result<()> {
/// use deploykit_docker::{Frontend, HaProxy};
///
/// let haproxy = HaProxy::builder().publish("127.0.0.1:8080").start().await?;
/// haproxy.add_service(&"web".try_into()?, &Frontend::new(8080).with_health_path("/health")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is started before `start`"]
pub struct HaProxyBuilder {
    engine: Option<Engine>,
    name: String,
    image: String,
    network: String,
    publish: Vec<String>,
    state_dir: Option<PathBuf>,
    extra: String,
    services: Vec<(ServiceName, Frontend)>,
}

impl HaProxyBuilder {
    pub(super) fn new() -> Self {
        Self {
            engine: None,
            name: "main".into(),
            image: "haproxy:2.6".into(),
            network: "deploykit".into(),
            publish: Vec::new(),
            state_dir: None,
            extra: String::new(),
            services: Vec::new(),
        }
    }

    /// The Engine to run it on, which must be on this machine; by default the one that `DOCKER_HOST` names.
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Tells several HAProxys on one machine apart, `main` by default: letters, digits and `-`. The container is named
    /// `deploykit-haproxy-<name>`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The image, `haproxy:2.6` by default; it is pulled where it is not there. It must have HAProxy 2.6 or later on its
    /// path.
    pub fn image(mut self, image: impl Into<String>) -> Self {
        self.image = image.into();
        self
    }

    /// The network on which the services' tasks are, `deploykit` by default; made where it is not there. `host` for the
    /// machine's own: nothing needs to be published then, and every listening port is the machine's.
    pub fn network(mut self, network: impl Into<String>) -> Self {
        self.network = network.into();
        self
    }

    /// Makes a port of HAProxy reachable at an address of this machine: `IP:PORT`, or `IP:PORT:PORT_OF_HAPROXY`; PORT 0
    /// for any that is free. Give all that services will ever need: a container's ports are fixed when it is created, and a
    /// service on another one is refused (see [`Frontend::unpublished`]).
    pub fn publish(mut self, publish: impl Into<String>) -> Self {
        self.publish.push(publish.into());
        self
    }

    /// Where configuration and socket are, by default `deploykit/haproxy/<name>` in `$XDG_STATE_HOME` or
    /// `~/.local/state`. Its owner is whom HAProxy runs as.
    pub fn state_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(dir.into());
        self
    }

    /// Lines of one's own at the end of the configuration, in sections of one's own.
    pub fn extra_config(mut self, lines: impl Into<String>) -> Self {
        self.extra = lines.into();
        self
    }

    /// Opens a service's port from the start, as [`HaProxy::add_service`] does later.
    pub fn service(mut self, service: &ServiceName, frontend: &Frontend) -> Self {
        self.services.push((service.clone(), frontend.clone()));
        self
    }

    /// Starts the container, or adopts the one that is there with the same settings, and makes it equal to what the state
    /// directory holds. Several calls at once end with one container.
    ///
    /// # Errors
    /// `Unavailable` names the Engine's or HAProxy's socket; `NotFound` the image, with how to get it; `Busy` the port
    /// that is taken, or what is different about the container that is there; `Invalid` has HAProxy's own words about
    /// a bad configuration; `Unsupported` for an Engine on another machine.
    pub async fn start(self) -> Result<HaProxy> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return Err(Error::invalid(format!(
                "HAProxy: the name {:?} cannot be used",
                self.name
            ))
            .with_hint("use letters, digits and '-'"));
        }
        let publish =
            self.publish.iter().map(|text| Publish::parse(text)).collect::<Result<_>>()?;
        let engine = match self.engine {
            Some(engine) => engine,
            None => Engine::connect().await?,
        };
        if !engine.address().starts_with("unix:") {
            let what =
                format!("HAProxy needs an Engine on this machine, {} is another", engine.address());
            return Err(Error::new(ErrorKind::Unsupported, what)
                .with_hint("its admin socket is a file: run the deployer where the Engine is"));
        }
        let state = state_dir(self.state_dir, &self.name)?;
        let owner = fs::metadata(&state).map_err(|error| failed("read", &state, error))?;
        let (config_dir, socket_dir) =
            (directory(&state, "conf", &owner)?, directory(&state, "run", &owner)?);
        let socket = socket_dir.join(SOCKET_FILE);
        let length = socket.as_os_str().len();
        if length > LONGEST_SOCKET_PATH {
            return Err(Error::invalid(format!(
                "the state directory {} is too deep: the socket's path has {length} bytes, at most \
                 {LONGEST_SOCKET_PATH} are possible",
                state.display()
            ))
            .with_hint("give a shorter one with HaProxyBuilder::state_dir"));
        }
        let spec = Spec {
            name: self.name,
            image: self.image,
            network: self.network,
            publish,
            user: format!("{}:{}", owner.uid(), owner.gid()),
            config_dir: config_dir.clone(),
            socket_dir,
        };
        let (runtime, store) =
            (Runtime::new(socket), Store::new(config_dir.join(CONFIG_FILE), CONFIG));
        let locked = store.lock(START).await?;
        locked.begin()?;
        locked.save(&locked.load()?)?;
        let (container, created) = Container::start(engine, spec, &runtime).await?;
        drop(locked);
        let inner = Inner { runtime, store, container: Some(container) };
        let this = HaProxy { inner: Arc::new(inner) };
        let changed = this.change(None, |model, locked| {
            model.extra = self.extra;
            let mut services = self.services.iter();
            services.try_for_each(|(service, frontend)| this.add(model, locked, service, frontend))
        });
        if let Err(error) = changed.await {
            if created {
                this.remove().await?;
            }
            return Err(error);
        }
        Ok(this)
    }
}

fn state_dir(given: Option<PathBuf>, name: &str) -> Result<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = || var("XDG_STATE_HOME").or_else(|| Some(var("HOME")?.join(".local/state")));
    let dir =
        given.or_else(|| Some(base()?.join("deploykit/haproxy").join(name))).ok_or_else(|| {
            Error::invalid("HAProxy: there is no HOME to keep the state in")
                .with_hint("name a directory with HaProxyBuilder::state_dir")
        })?;
    // A bind mount is written with colons between its parts.
    if dir.to_str().is_none_or(|path| path.contains(':')) {
        let what = format!(
            "HAProxy: the state directory {} cannot be mounted by the Engine",
            dir.display()
        );
        return Err(Error::invalid(what).with_hint("give one whose path is UTF-8 without a colon"));
    }
    fs::create_dir_all(&dir).map_err(|error| failed("make", &dir, error))?;
    // The Engine wants it whole, and two ways to write one directory are to be one container.
    dir.canonicalize().map_err(|error| failed("find", &dir, error))
}

/// A directory for its owner alone: what is in the configuration may be secret, and whoever can open the lock can keep it.
fn directory(state: &Path, name: &str, owner: &fs::Metadata) -> Result<PathBuf> {
    let dir = state.join(name);
    fs::create_dir_all(&dir).map_err(|error| failed("make", &dir, error))?;
    let set = chown(&dir, Some(owner.uid()), Some(owner.gid()))
        .and_then(|()| fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)));
    set.map_err(|error| failed("set owner and mode of", &dir, error))?;
    Ok(dir)
}
