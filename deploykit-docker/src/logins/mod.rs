//! Who one is to registries: as given in code, or as `docker login` left it.

mod config;
mod helper;

use std::fmt;
use std::path::PathBuf;

use deploykit_core::{Error, ErrorKind, ImageRef, Result};
use secrecy::SecretString;

/// The registry that a name without one means to the Engine.
pub(crate) const DEFAULT_REGISTRY: &str = "docker.io";

/// Credentials for registries.
///
/// What is given in code counts first. Else Docker's own configuration is asked, `$DOCKER_CONFIG/config.json` or
/// `~/.docker/config.json`, each time anew: its `credHelpers` for the registry, its `credsStore`, its `auths`, in this
/// order. A registry that none of them knows is asked without credentials.
///
/// ```
/// use deploykit_docker::Logins;
///
/// let logins = Logins::new().with_password("registry.example.org:5000", "ci", "from a secret store");
/// assert!(!format!("{logins:?}").contains("secret"));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Logins {
    given: Vec<(String, String, SecretString)>,
    config: Config,
}

#[derive(Clone, Debug, Default)]
enum Config {
    #[default]
    OfThisUser,
    In(PathBuf),
    Unread,
}

impl Logins {
    /// What `docker login` keeps for this user.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets user and password for `registry`, written as in image names: `registry.example.org:5000`, or `docker.io`
    /// for names without a registry. They are sent to that registry, and to whom it names for tokens, only.
    pub fn with_password(
        mut self,
        registry: impl Into<String>,
        user: impl Into<String>,
        password: impl Into<SecretString>,
    ) -> Self {
        self.given.push((canonical(&registry.into()), user.into(), password.into()));
        self
    }

    /// Reads Docker's configuration in this directory, as `$DOCKER_CONFIG` names one.
    pub fn with_docker_config(mut self, directory: impl Into<PathBuf>) -> Self {
        self.config = Config::In(directory.into());
        self
    }

    /// Leaves Docker's configuration alone: what is given in code is all there is.
    pub fn without_docker_config(mut self) -> Self {
        self.config = Config::Unread;
        self
    }

    /// Those for the registry that holds `image`.
    pub(crate) async fn of(&self, image: &ImageRef) -> Result<Login> {
        let registry = canonical(image.registry().unwrap_or(DEFAULT_REGISTRY));
        if let Some((_, user, password)) = self.given.iter().rev().find(|one| one.0 == registry) {
            let proof = Proof::Password { user: user.clone(), password: password.clone() };
            return Ok(Login { proof: Some(proof), source: Source::Code });
        }
        let file = match &self.config {
            Config::OfThisUser => config::of_this_user(),
            Config::In(directory) => Some(directory.join(config::NAME)),
            Config::Unread => None,
        };
        let Some(file) = file else { return Ok(Login { proof: None, source: Source::Code }) };
        let found = match config::read(&file).await? {
            Some(config) => config.find(&registry, &file).await?,
            None => None,
        };
        Ok(found.unwrap_or(Login { proof: None, source: Source::File(file) }))
    }
}

/// What is presented to a registry, and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    /// None: nothing is known for this registry.
    pub(crate) proof: Option<Proof>,
    source: Source,
}

#[derive(Clone, Debug)]
pub(crate) enum Proof {
    Password {
        user: String,
        password: SecretString,
    },
    /// To be exchanged for a token at each use; what `docker login` got instead of a password.
    Identity(SecretString),
    /// Presented to the registry as it is.
    Token(SecretString),
}

#[derive(Clone, Debug)]
enum Source {
    Code,
    File(PathBuf),
    Helper { program: String, file: PathBuf },
}

impl Login {
    /// What a registry's refusal means; `says` are its words.
    pub(crate) fn refused(&self, doing: &str, registry: &str, says: &str) -> Error {
        Error::new(
            ErrorKind::Denied,
            format!("{doing}: registry {registry} refuses {self}: {says}"),
        )
        .with_hint(format!(
            "check the name and who may use it; `docker login {registry}` or Logins::with_password \
             sets credentials"
        ))
    }
}

/// As an object: `the credentials given in code for user "me"`.
impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(proof) = &self.proof else {
            f.write_str("a request without credentials")?;
            return match &self.source {
                Source::Code => Ok(()),
                Source::File(file) | Source::Helper { file, .. } => {
                    write!(f, " ({} has none for it)", file.display())
                }
            };
        };
        match &self.source {
            Source::Code => f.write_str("the credentials given in code")?,
            Source::File(file) => write!(f, "the credentials in {}", file.display())?,
            Source::Helper { program, file } => {
                write!(f, "the credentials from {program}, which {} names,", file.display())?;
            }
        }
        match proof {
            Proof::Password { user, .. } => write!(f, " for user {user:?}"),
            Proof::Identity(_) => f.write_str(", an identity token"),
            Proof::Token(_) => f.write_str(", a registry token"),
        }
    }
}

/// A registry as image names write it. Docker's own goes by several names.
fn canonical(registry: &str) -> String {
    match registry {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.into(),
        other => other.into(),
    }
}
