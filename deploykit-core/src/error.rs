//! The one error type of the family.

use std::error::Error as StdError;
use std::fmt;

/// What a failure means to the caller, whatever backend it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value that was given cannot be used; the message names the field.
    Invalid,
    /// The service, image, revision or rollout that was named does not exist.
    NotFound,
    /// Somebody else decides about the service: its lease is held, a rollout of it has not ended, or the lease that was
    /// shown is not valid any more.
    Conflict,
    /// Somebody else has it: a port, a place, a name.
    Busy,
    /// The world is no longer the one that the plan was made for.
    StalePlan,
    /// The backend cannot do what the plan asks for.
    Unsupported,
    /// A provider cannot be reached, or did not answer in time.
    Unavailable,
    /// A provider asks to be called less often.
    Throttled,
    /// A provider refuses the credentials, or what they may do.
    Denied,
    /// The new version failed: a task died, never became healthy, or was judged bad.
    Unhealthy,
    /// A bound passed before the condition was met.
    Timeout,
    /// What was read back is not what was written here; somebody else changes it too.
    Foreign,
    /// Nobody can tell whether, or how, something that must not happen twice has happened.
    Uncertain,
    /// A journal, a lease file or a plan cannot be read.
    Corrupt,
    /// The journal or the plan was written by a version that this one does not understand.
    Newer,
    /// Anything else, in a provider or in a user's own gate.
    Other,
}

/// An error: what was tried, what it means, whether trying again can help, and what to do next.
///
/// `Display` prints one line, without the source; [`report`](Self::report) prints the chain.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    temporary: bool,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind; `message` says what was tried, where, and why it failed: lower case, no full stop.
    ///
    /// It counts as [temporary](Self::is_temporary) when its kind is `Unavailable`, `Throttled` or `Timeout`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let temporary =
            matches!(kind, ErrorKind::Unavailable | ErrorKind::Throttled | ErrorKind::Timeout);
        Self(Box::new(Inner { kind, temporary, message: message.into(), hint: None, source: None }))
    }

    /// Short for [`new`](Self::new) with [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Says what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Says what to do next, unless that was said before.
    #[must_use]
    pub(crate) fn or_hint(self, hint: &str) -> Self {
        if self.0.hint.is_some() { self } else { self.with_hint(hint) }
    }

    /// Keeps what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says whether trying again can help, where the kind alone does not tell.
    #[must_use]
    pub fn with_temporary(mut self, temporary: bool) -> Self {
        self.0.temporary = temporary;
        self
    }

    /// Puts `what` before the message: `launch of place B: <message>`.
    #[must_use]
    pub fn within(mut self, what: impl fmt::Display) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// What the failure means.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed when it is tried again.
    pub fn is_temporary(&self) -> bool {
        self.0.temporary
    }

    /// What was tried and why it failed, without the hint.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do next, where something is known to help.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The whole chain in one line: the message, the causes, the hint.
    pub fn report(&self) -> String {
        let mut text = self.0.message.clone();
        let mut next = self.source();
        while let Some(cause) = next {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            next = cause.source();
        }
        if let Some(hint) = &self.0.hint {
            text.push_str("; ");
            text.push_str(hint);
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.report())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_leaves_the_source_to_the_chain_and_report_prints_it_once() {
        let error = Error::new(ErrorKind::Unavailable, "registry r1 does not answer")
            .with_hint("check the network")
            .with_source(std::io::Error::other("connection refused"));
        assert_eq!(error.to_string(), "registry r1 does not answer; check the network");
        assert_eq!(
            error.report(),
            "registry r1 does not answer: connection refused; check the network"
        );
    }

    #[test]
    fn an_error_is_one_pointer_and_crosses_threads() {
        fn crosses<T: Send + Sync + 'static>() {}
        crosses::<Error>();
        assert!(size_of::<Error>() <= 8);
    }
}
