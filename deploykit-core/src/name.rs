//! Names: of services, places, rollouts, revisions, tasks and gates.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the name as it is.
            pub fn new(name: impl Into<String>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name)
            }
        }
    };
}

text_name! {
    /// A release as its provider registered it: what the provider needs to run it again.
    RevisionId
}
text_name! {
    /// One rollout: the service's name and a number that counts up, `web-7`.
    RolloutId
}
text_name! {
    /// One running copy of a revision, as its orchestrator names it.
    TaskId
}
text_name! {
    /// The name under which an approver was given to the deployer and stands in plans.
    ApproverName
}
text_name! {
    /// The name under which a hook was given to the deployer and stands in plans.
    HookName
}
text_name! {
    /// The name of a job, by which its runs are told apart from those of other jobs.
    JobName
}
text_name! {
    /// One run of a job; never given twice.
    JobId
}
text_name! {
    /// The name under which a gate was given to the deployer and stands in plans.
    GateName
}

/// The longest name of a service, so that what is made from it (container names, labels, target groups) stays within
/// their limits; a target group's name has 32 characters.
const LONGEST_SERVICE_NAME: usize = 24;

/// A service: 1 to 24 characters of `a-z`, `0-9` and `-`, beginning with a letter and not ending with `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

impl ServiceName {
    /// Checks and takes the name.
    ///
    /// # Errors
    /// `Invalid`, naming the character or length that is wrong.
    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let wrong = |why: &str| {
            Err(Error::invalid(format!("service name {name:?} {why}"))
                .with_hint("use 1 to 24 characters of a-z, 0-9 and -, beginning with a letter"))
        };
        if name.is_empty() {
            return wrong("is empty");
        }
        if name.len() > LONGEST_SERVICE_NAME {
            return wrong("is too long");
        }
        if let Some(bad) =
            name.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-'))
        {
            return wrong(&format!("contains {bad:?}"));
        }
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.ends_with('-') {
            return wrong("begins or ends with the wrong character");
        }
        Ok(Self(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ServiceName {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl TryFrom<&str> for ServiceName {
    type Error = Error;
    fn try_from(name: &str) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = Error;
    fn try_from(name: String) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl TryFrom<&Self> for ServiceName {
    type Error = Error;
    fn try_from(name: &Self) -> Result<Self, Error> {
        Ok(name.clone())
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

/// Where the tasks of one revision physically run: `A`, `B`, … `Z`.
///
/// Labels, target groups and balancer backends are named after places, because they cannot change their meaning when
/// a revision is promoted. Which place is stable is the deployer's knowledge, see [`Role`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place(u8);

impl Place {
    /// The first place.
    pub const A: Self = Self(0);
    /// The second place.
    pub const B: Self = Self(1);
    /// The third place.
    pub const C: Self = Self(2);
    /// How many places there can be.
    pub const COUNT: usize = 26;

    /// All places in order, `A` first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..26).map(Self)
    }

    /// The place's position, `A` being 0.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    fn letter(self) -> char {
        char::from(b'A' + self.0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.letter().encode_utf8(&mut [0; 4]))
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Place {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.as_bytes() {
            [letter @ b'A'..=b'Z'] => Ok(Self(letter - b'A')),
            _ => Err(Error::invalid(format!("place {text:?} is not one letter from A to Z"))),
        }
    }
}

impl TryFrom<String> for Place {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

/// What a place is to the service at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Serves; what a rollout goes back to.
    Stable,
    /// The new version of a rollout in progress.
    Candidate,
    /// The former stable, kept for a fast way back.
    Held,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stable => "stable",
            Self::Candidate => "candidate",
            Self::Held => "held",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_name_that_cannot_be_used_says_which_character_is_wrong() {
        let error = ServiceName::new("my_web").unwrap_err();
        assert!(error.to_string().contains("'_'"), "{error}");
    }

    #[test]
    fn a_place_reads_back_as_it_prints() {
        for place in Place::all() {
            assert_eq!(place.to_string().parse::<Place>().unwrap(), place);
        }
        assert!("a".parse::<Place>().is_err());
    }
}
