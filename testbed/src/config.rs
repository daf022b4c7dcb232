//! What the environment asks for.

use std::time::Duration;

/// How the service behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Answers everything.
    Good,
    /// Ends with exit code 3 and a line on standard error before it listens.
    Crash,
    /// `/health` answers 503 for ever; everything else is as in `Good`.
    Unhealthy,
    /// Every answer, `/health` included, comes `SLOW_MS` late.
    Slow,
    /// After the first live request that it answers, everything is 500.
    Errors,
}

impl Mode {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "good" => Self::Good,
            "crash" => Self::Crash,
            "unhealthy" => Self::Unhealthy,
            "slow" => Self::Slow,
            "errors" => Self::Errors,
            _ => return None,
        })
    }
}

/// The whole configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// `PORT`, default 8080; 0 lets the system choose, and the first line of output names it.
    pub(crate) port: u16,
    /// `VERSION`, default `A`: in the header `x-version` of each answer.
    pub(crate) version: String,
    /// `MODE`, default `good`.
    pub(crate) mode: Mode,
    /// `SLOW_MS`, default 1500: the delay of mode `slow`.
    pub(crate) slow: Duration,
    /// `STARTUP_MS`, default 0: how long it takes until it listens (or crashes).
    pub(crate) startup: Duration,
}

impl Config {
    /// Reads the variables; what is set but not understood is an error that names the variable.
    pub(crate) fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let number = |name: &str, default: u64| match get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("{name}={text} is not a whole number")),
        };
        let port = number("PORT", 8080)?;
        let mode = get("MODE").unwrap_or_else(|| "good".into());
        Ok(Self {
            port: u16::try_from(port).map_err(|_| format!("PORT={port} is above 65535"))?,
            version: get("VERSION").unwrap_or_else(|| "A".into()),
            mode: Mode::parse(&mode).ok_or_else(|| {
                format!("MODE={mode} is none of good, crash, unhealthy, slow, errors")
            })?,
            slow: Duration::from_millis(number("SLOW_MS", 1500)?),
            startup: Duration::from_millis(number("STARTUP_MS", 0)?),
        })
    }
}
