//! The command line.

use std::fmt;

use deploykit::Weight;

use crate::clients::By;
use crate::deployment::How;

/// How the new version is bad. The deployer is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    Crash,
    Unhealthy,
    Slow,
    Errors,
}

impl Bad {
    const ALL: [Self; 4] = [Self::Crash, Self::Unhealthy, Self::Slow, Self::Errors];
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crash => "crash",
            Self::Unhealthy => "unhealthy",
            Self::Slow => "slow",
            Self::Errors => "errors",
        })
    }
}

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) replicas: u32,
    pub(crate) load: u32,
    pub(crate) requests: u64,
    pub(crate) bad: Option<Bad>,
    pub(crate) json: bool,
    pub(crate) strategy: How,
    /// Only measure what HAProxy makes of this share.
    pub(crate) split: Option<Weight>,
    /// Only measure whether clients who are known by this stay where they are while the share grows.
    pub(crate) sticky: Option<By>,
    /// How many tasks the new version has then, where it is not as many as the old one.
    pub(crate) beside: Option<u32>,
}

pub(crate) const HELP: &str = "\
Replaces a real HTTP service, in containers behind HAProxy, under load.

  cargo run --example docker --features docker,http-gate,load,signals -- [OPTIONS]

  --strategy NAME   how the new version comes; blue-green by default
                      blue-green  all of it beside the old one, tested, then 25 %,
                                  50 % and all of the requests
                      rolling     in batches: a quarter more containers at most,
                                  none fewer; each batch is watched
                      canary      all of it beside the old one, then 5 %, 25 %, 50 %
                                  and all of the requests
                    whoever serves is watched by a gate, which asks each new
                    container every 100 ms
  --replicas N      how many containers each version has; 4 by default
  --load RATE       requests per second; 200 by default
  --requests N      go on until at least so many were sent; 2000 by default
  --bad HOW         bring a version that is bad, and see it go back:
                      crash      ends before it listens
                      unhealthy  never becomes ready
                      slow       answers its tests too late
                      errors     answers 500 after its first live request
  --split PERCENT   replace nothing: put both versions side by side, ask HAProxy
                    for this share for the new one, and count who answers
  --sticky HOW      replace nothing: 1000 clients, known by a cookie or a header,
                    come again and again while the share of the new one grows:
                    1 %, 10 %, 50 %, 100 %; count those who go back
    --beside N      so many containers of the new one; as many as of the old one
                    by default
  --json            one object as the last line
  --help            this text

Needs a Docker Engine on this machine (DOCKER_HOST is honoured) and the images
that `cargo xtask parts` makes. Everything that it creates is removed at the end.
Ctrl-C undoes the rollout.

Exit codes: 0 promoted, or counted; 3 rolled back, 4 needs an operator, 5 aborted;
1 something else went wrong, 2 the command line cannot be read.
";

/// Why there is nothing to run.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Help was asked for.
    Help,
    /// This is wrong.
    Wrong(String),
}

impl Arguments {
    /// Reads the words after the program's name.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, Refused> {
        let mut this = Self {
            strategy: How::BlueGreen,
            split: None,
            sticky: None,
            beside: None,
            replicas: 4,
            load: 200,
            requests: 2000,
            bad: None,
            json: false,
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            // `--name value` and `--name=value` alike.
            let (name, joined) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            let mut value = || {
                let missing = || Refused::Wrong(format!("{name} needs a value"));
                joined.clone().or_else(|| words.next()).ok_or_else(missing)
            };
            match name.as_str() {
                "--strategy" => this.strategy = one_of(&name, &value()?, How::ALL)?,
                "--replicas" => this.replicas = number(&name, &value()?)?,
                "--load" => this.load = number(&name, &value()?)?,
                "--requests" => this.requests = number(&name, &value()?)?,
                "--bad" => this.bad = Some(one_of(&name, &value()?, Bad::ALL)?),
                "--split" => this.split = Some(percent(&name, &value()?)?),
                "--sticky" => this.sticky = Some(one_of(&name, &value()?, By::ALL)?),
                "--beside" => this.beside = Some(number(&name, &value()?)?),
                "--json" if joined.is_none() => this.json = true,
                "--help" | "-h" => return Err(Refused::Help),
                _ => return Err(Refused::Wrong(format!("{name} is not an option"))),
            }
        }
        Ok(this)
    }
}

fn one_of<T: fmt::Display + Copy, const N: usize>(
    name: &str,
    text: &str,
    all: [T; N],
) -> Result<T, Refused> {
    let known = all.into_iter().find(|one| one.to_string() == text);
    let all = all.map(|one| one.to_string()).join(", ");
    known.ok_or_else(|| Refused::Wrong(format!("{name} {text}: give one of {all}")))
}

fn percent(name: &str, text: &str) -> Result<Weight, Refused> {
    let wrong = || Refused::Wrong(format!("{name} {text}: give a whole number from 1 to 100"));
    Weight::percent(number(name, text)?).map_err(|_| wrong())
}

fn number<T: TryFrom<u64>>(name: &str, text: &str) -> Result<T, Refused> {
    let number: Option<u64> = text.parse().ok().filter(|number| *number > 0);
    let wrong = || Refused::Wrong(format!("{name} {text}: give a whole number above zero"));
    T::try_from(number.ok_or_else(wrong)?).map_err(|_| wrong())
}
