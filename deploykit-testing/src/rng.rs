//! The world's randomness: seeded, and split into streams so that one draw more in one corner changes nothing in another.

use std::time::Duration;

/// `SplitMix64`, as published by Steele, Lea and Flood (OOPSLA 2014).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rng(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Rng {
    /// One of many streams of a seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self(stream.wrapping_mul(GOLDEN));
        let start = rng.next();
        Self(start ^ seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`; 0 when that is 0. The bounds are small here, so the bias of the remainder is no matter.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// From `least` to `most`, both included, in whole microseconds.
    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = most.saturating_sub(least).as_micros();
        let span = u64::try_from(span).unwrap_or(u64::MAX).min(u64::MAX - 1);
        least.saturating_add(Duration::from_micros(self.below(span + 1)))
    }
}
