//! The clock of the world.

use deploykit_core::{Clock, Timestamp};

use crate::world::World;

/// When each world begins: 2026-01-01 in UTC, in milliseconds since 1970.
const BEGINNING: i64 = 1_767_225_600_000;

/// A clock that shows the time of a [`World`].
#[derive(Clone, Debug)]
pub struct WorldClock {
    world: World,
}

impl WorldClock {
    pub(crate) const fn new(world: World) -> Self {
        Self { world }
    }
}

impl Clock for WorldClock {
    fn now(&self) -> Timestamp {
        let state = self.world.lock();
        Timestamp::from_millis(BEGINNING.saturating_add(state.clock_offset)).plus(state.now)
    }
}
