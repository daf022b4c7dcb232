//! Points in time, and the clock that tells them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time, to the millisecond; RFC 3339 in UTC as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// The last time that has a text, in the year 9999.
const LAST: i64 = 253_402_207_200_000 - 1;

impl Timestamp {
    /// From milliseconds since 1970-01-01 UTC; times beyond the years 1 to 9999 become their ends.
    pub const fn from_millis(millis: i64) -> Self {
        const FIRST: i64 = -LAST / 5;
        Self(if millis > LAST {
            LAST
        } else if millis < FIRST {
            FIRST
        } else {
            millis
        })
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This point, later by `by`; the end of the year 9999 where that is too late.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            // Always three decimals, so that texts of equal length sort as the times do.
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(time.as_millisecond()))
    }
}

/// Tells the time of day for journals and deadlines.
///
/// Waiting itself goes through tokio's timer, so a test on paused time needs a clock that follows it; the testing
/// crate's world has one.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now. It may jump back; nothing that was decided is undone by that.
    fn now(&self) -> Timestamp;
}

/// The computer's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }
}

/// Durations in plans and journals: whole milliseconds, in fields whose names end in `_ms`.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

/// A duration as people write it: `250 ms`, `1.5 s`, `3 min`, `2 h 5 min`.
pub(crate) fn human(time: Duration) -> String {
    let millis = time.as_millis();
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 if millis.is_multiple_of(1_000) => format!("{} s", millis / 1_000),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ => {
            let seconds = millis / 1_000;
            let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
            let parts = [(hours, "h"), (minutes, "min"), (rest, "s")];
            let parts: Vec<_> = parts
                .iter()
                .filter(|(n, _)| *n > 0)
                .map(|(n, unit)| format!("{n} {unit}"))
                .collect();
            parts.join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_back_from_json_to_the_millisecond() {
        let time = Timestamp::from_millis(1_790_000_000_100);
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, "\"2026-09-21T14:13:20.100Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
    }

    #[test]
    fn the_end_of_time_reads_back() {
        let end = Timestamp::default().plus(Duration::MAX);
        let json = serde_json::to_string(&end).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), end);
        let start = Timestamp::from_millis(i64::MIN);
        let json = serde_json::to_string(&start).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), start);
    }

    #[test]
    fn durations_read_as_people_write_them() {
        let texts =
            [40, 1_500, 3_000, 60_000, 7_500_000].map(|ms| human(Duration::from_millis(ms)));
        assert_eq!(texts, ["40 ms", "1.5 s", "3 s", "1 min", "2 h 5 min"]);
    }
}
