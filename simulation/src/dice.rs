//! Chance that a seed repeats.

/// A sequence that only its seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5151);
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        // Xorshift; never zero.
        self.0 = self.0.max(1);
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// From `least` to `most`, both included.
    pub(crate) fn roll(&mut self, least: u32, most: u32) -> u32 {
        least + u32::try_from(self.next() % u64::from(most - least + 1)).unwrap()
    }

    /// True so often in a hundred.
    pub(crate) fn odds(&mut self, percent: u32) -> bool {
        self.roll(1, 100) <= percent
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.roll(0, u32::try_from(of.len()).unwrap() - 1) as usize].clone()
    }

    /// A time in milliseconds.
    pub(crate) fn millis(&mut self, least: u32, most: u32) -> u64 {
        u64::from(self.roll(least, most))
    }
}
