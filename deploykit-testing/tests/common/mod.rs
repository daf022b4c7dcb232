//! What the tests of the world and those of plans begin with.

use deploykit_core::ServiceName;
use deploykit_testing::{Behaviour, World};

/// A world in which `web:1` runs in place A, `count` times, and `web:2` behaves as is said.
pub(crate) fn world(count: u32, next: Behaviour) -> (World, ServiceName) {
    let world = World::new(7);
    world.image("web:1", Behaviour::good()).unwrap();
    world.image("web:2", next).unwrap();
    let web = world.already_runs("web", "web:1", count).unwrap();
    (world, web)
}
