//! What the Engine's failures mean, in one place.

use std::error::Error as StdError;

use bollard::errors::Error as BollardError;
use deploykit_core::{Error, ErrorKind};

use super::endpoint::Endpoint;

/// How a call failed, before it is known what was wanted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The Engine answered with an error status.
    #[error("{message}")]
    Answer { status: u16, message: String },
    /// No connection, or it broke.
    #[error("{what}")]
    Connection { what: &'static str, source: Box<dyn StdError + Send + Sync> },
    /// No answer in time.
    #[error("no answer in time")]
    Silence,
    /// An answer that cannot be read.
    #[error("an answer that cannot be read")]
    Nonsense(#[source] Box<dyn StdError + Send + Sync>),
}

impl Failure {
    pub(crate) fn is(&self, wanted: u16) -> bool {
        matches!(self, Self::Answer { status, .. } if *status == wanted)
    }

    pub(crate) fn says(&self, part: &str) -> bool {
        matches!(self, Self::Answer { message, .. } if message.to_lowercase().contains(&part.to_lowercase()))
    }

    /// The failure as the caller meets it; `doing` is what was tried, such as `create container web-A-0`.
    pub(crate) fn while_doing(self, doing: &str, endpoint: &Endpoint) -> Error {
        match self {
            Self::Answer { status, message } => {
                let kind = match status {
                    400 => ErrorKind::Invalid,
                    401 | 403 => ErrorKind::Denied,
                    404 => ErrorKind::NotFound,
                    409 => ErrorKind::Busy,
                    429 => ErrorKind::Throttled,
                    // By what stands in front of the Engine, if not by itself.
                    502..=504 => ErrorKind::Unavailable,
                    _ if message.contains("port is already allocated")
                        || message.contains("ddress already in use") =>
                    {
                        ErrorKind::Busy
                    }
                    _ => ErrorKind::Other,
                };
                Error::new(kind, format!("{doing}: the Engine answered {status}: {message}"))
            }
            Self::Connection { what, source } => {
                let hint = if chain_says(source.as_ref(), "ermission denied") {
                    "let this user use the socket (usually: membership in the group docker)"
                } else {
                    "start the Engine, or set DOCKER_HOST to where it listens"
                };
                Error::new(
                    ErrorKind::Unavailable,
                    format!("{doing}: the Docker Engine at {endpoint} cannot be reached: {what}"),
                )
                .with_hint(hint)
                .with_source(source)
            }
            Self::Silence => Error::new(
                ErrorKind::Timeout,
                format!("{doing}: the Docker Engine at {endpoint} did not answer in time"),
            ),
            Self::Nonsense(source) => Error::new(
                ErrorKind::Other,
                format!(
                    "{doing}: the Docker Engine at {endpoint} gave an answer that cannot be read"
                ),
            )
            .with_hint("check that an Engine of API 1.40 or later listens there")
            .with_source(source),
        }
    }
}

fn chain_says(error: &(dyn StdError + 'static), part: &str) -> bool {
    error.to_string().contains(part) || error.source().is_some_and(|cause| chain_says(cause, part))
}

impl From<BollardError> for Failure {
    fn from(error: BollardError) -> Self {
        match error {
            BollardError::DockerResponseServerError { status_code, message } => {
                Self::Answer { status: status_code, message }
            }
            // An error inside a stream, such as that of a pull, comes after the status 200.
            BollardError::DockerStreamError { error } => {
                Self::Answer { status: 500, message: error }
            }
            BollardError::RequestTimeoutError => Self::Silence,
            BollardError::IOError { err } => {
                Self::Connection { what: "the connection broke", source: err.into() }
            }
            BollardError::HyperResponseError { err } => {
                Self::Connection { what: "the connection broke", source: err.into() }
            }
            BollardError::HyperLegacyError { err } => Self::Connection {
                what: if err.is_connect() { "no connection" } else { "the connection broke" },
                source: err.into(),
            },
            BollardError::SocketNotFoundError(path) => Self::Connection {
                what: "no connection",
                source: format!("{path} does not exist").into(),
            },
            other => Self::Nonsense(other.into()),
        }
    }
}
