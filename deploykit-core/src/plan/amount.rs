use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A number of tasks: counted, or as a share of the desired count.
///
/// Shares are rounded as Kubernetes rounds them: a surge up, what may be unavailable down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// So many tasks.
    Count(u32),
    /// So many per cent of the desired count.
    Percent(u16),
}

impl Amount {
    /// So many per cent.
    ///
    /// # Errors
    /// `Invalid` above 100.
    pub fn percent(percent: u16) -> Result<Self> {
        if percent > 100 {
            return Err(Error::invalid(format!("{percent} % is over 100 %")));
        }
        Ok(Self::Percent(percent))
    }

    /// Rounded up.
    pub(crate) fn up(self, desired: u32) -> u32 {
        self.of(desired, u64::div_ceil)
    }

    /// Rounded down.
    pub(crate) fn down(self, desired: u32) -> u32 {
        self.of(desired, |tasks, hundred| tasks / hundred)
    }

    fn of(self, desired: u32, divide: fn(u64, u64) -> u64) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => {
                let tasks = divide(u64::from(desired) * u64::from(percent), 100);
                u32::try_from(tasks).unwrap_or(u32::MAX)
            }
        }
    }

    pub(crate) fn is_zero(self) -> bool {
        matches!(self, Self::Count(0) | Self::Percent(0))
    }
}

impl From<u32> for Amount {
    fn from(count: u32) -> Self {
        Self::Count(count)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent} %"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_up_for_a_surge_and_down_for_what_may_be_unavailable() {
        let quarter = Amount::percent(25).unwrap();
        assert_eq!([1, 4, 5, 10].map(|desired| quarter.up(desired)), [1, 1, 2, 3]);
        assert_eq!([1, 4, 5, 10].map(|desired| quarter.down(desired)), [0, 1, 1, 2]);
    }
}
