//! Where the requests of a service go.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::name::Place;

/// A share of the requests in thousandths, 0 to 1,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Weight(u16);

impl Weight {
    /// No request.
    pub const NONE: Self = Self(0);
    /// Every request.
    pub const ALL: Self = Self(1_000);

    /// So many thousandths.
    ///
    /// # Errors
    /// `Invalid` above 1,000.
    pub fn thousandths(thousandths: u16) -> Result<Self> {
        if thousandths > Self::ALL.0 {
            return Err(Error::invalid(format!("weight {thousandths} is over 1,000"))
                .with_hint("weights are thousandths: 50 is 5 %, 1,000 is everything"));
        }
        Ok(Self(thousandths))
    }

    /// So many per cent.
    ///
    /// # Errors
    /// `Invalid` above 100.
    pub fn percent(percent: u16) -> Result<Self> {
        if percent > 100 {
            return Err(Error::invalid(format!("weight {percent} % is over 100 %"))
                .with_hint("100 % is everything; finer shares are Weight::thousandths"));
        }
        Self::thousandths(percent * 10)
    }

    /// The share that `part` is of `all`, rounded down: `Weight::ratio(1, 4)` is that of one task of four.
    ///
    /// # Errors
    /// `Invalid` where `part` is more than `all`, or `all` is 0.
    pub fn ratio(part: u32, all: u32) -> Result<Self> {
        let thousandths = (u64::from(part) * u64::from(Self::ALL.0)).checked_div(u64::from(all));
        let share = thousandths.and_then(|share| u16::try_from(share).ok()).map(Self);
        share
            .filter(|share| *share <= Self::ALL)
            .ok_or_else(|| Error::invalid(format!("{part} of {all} is no share")))
    }

    /// The share in thousandths.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// What is left for the others.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(Self::ALL.0 - self.0)
    }
}

impl TryFrom<u16> for Weight {
    type Error = Error;
    fn try_from(thousandths: u16) -> Result<Self> {
        Self::thousandths(thousandths)
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

/// In per cent: `5 %`, `0.1 %`.
impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 10, self.0 % 10) {
            (whole, 0) => write!(f, "{whole} %"),
            (whole, tenth) => write!(f, "{whole}.{tenth} %"),
        }
    }
}

/// Where the requests of a service go: one whole state, never a change to one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Routing {
    /// Nowhere; the service has no balancer.
    None,
    /// Nowhere yet: requests are refused.
    Closed,
    /// Each place gets its share; within it, all healthy targets are equal.
    Weighted(Weights),
    /// Every healthy registered target of any place is equal, as in a rolling update behind one target group.
    Pooled,
}

impl Routing {
    /// All requests to this place.
    pub fn all_to(place: Place) -> Self {
        Self::Weighted(Weights(BTreeMap::from([(place, Weight::ALL)])))
    }

    /// `weight` to `to`, the rest to `from`.
    pub fn split(from: Place, to: Place, weight: Weight) -> Self {
        let shares = [(to, weight), (from, weight.rest())];
        Self::Weighted(Weights(shares.into_iter().filter(|(_, w)| *w > Weight::NONE).collect()))
    }

    /// The share of this place. Of a pooled routing it is not known here, and 0 is returned.
    pub fn weight(&self, place: Place) -> Weight {
        match self {
            Self::Weighted(weights) => weights.0.get(&place).copied().unwrap_or(Weight::NONE),
            Self::None | Self::Closed | Self::Pooled => Weight::NONE,
        }
    }

    /// The places that get a share.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        let weights = match self {
            Self::Weighted(weights) => Some(weights.0.keys().copied()),
            Self::None | Self::Closed | Self::Pooled => None,
        };
        weights.into_iter().flatten()
    }
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no balancer"),
            Self::Closed => f.write_str("closed"),
            Self::Pooled => f.write_str("all healthy tasks"),
            Self::Weighted(weights) => {
                for (n, (place, weight)) in weights.0.iter().enumerate() {
                    write!(f, "{}{place} {weight}", if n == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
    }
}

/// The shares of places: none of them zero, summing to 1,000.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Place, Weight>", into = "BTreeMap<Place, Weight>")]
pub struct Weights(BTreeMap<Place, Weight>);

impl Weights {
    /// Checks and takes the shares; zeros are left out.
    ///
    /// # Errors
    /// `Invalid` when they do not sum to 1,000.
    pub fn new(shares: impl IntoIterator<Item = (Place, Weight)>) -> Result<Self> {
        let shares: BTreeMap<_, _> =
            shares.into_iter().filter(|(_, w)| *w > Weight::NONE).collect();
        let sum: u32 = shares.values().map(|weight| u32::from(weight.0)).sum();
        if sum != u32::from(Weight::ALL.0) {
            return Err(Error::invalid(format!("the weights sum to {sum}, not to 1,000")));
        }
        Ok(Self(shares))
    }

    /// Places and shares in order of the places.
    pub fn iter(&self) -> impl Iterator<Item = (Place, Weight)> {
        self.0.iter().map(|(place, weight)| (*place, *weight))
    }
}

impl TryFrom<BTreeMap<Place, Weight>> for Weights {
    type Error = Error;
    fn try_from(shares: BTreeMap<Place, Weight>) -> Result<Self> {
        Self::new(shares)
    }
}

impl From<Weights> for BTreeMap<Place, Weight> {
    fn from(weights: Weights) -> Self {
        weights.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_always_sums_to_a_thousand_and_names_no_place_without_a_share() {
        for thousandths in 0..=1_000 {
            let weight = Weight::thousandths(thousandths).unwrap();
            let Routing::Weighted(weights) = Routing::split(Place::A, Place::B, weight) else {
                panic!()
            };
            assert!(Weights::new(weights.iter()).is_ok());
            assert!(weights.iter().all(|(_, w)| w > Weight::NONE));
        }
    }

    #[test]
    fn weights_that_do_not_sum_to_a_thousand_are_refused_from_json_too() {
        assert!(serde_json::from_str::<Weights>(r#"{"A":900}"#).is_err());
        assert!(serde_json::from_str::<Weights>(r#"{"A":900,"B":100}"#).is_ok());
    }
}
