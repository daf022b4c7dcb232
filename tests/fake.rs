//! The scenarios in a world in memory, on virtual time; and those that only such a world can play.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]
#![allow(clippy::future_not_send, reason = "a test is played where it begins")]

#[path = "fake/stage.rs"]
mod fake;
mod scenarios;
#[path = "fake/sweep.rs"]
mod sweep;
#[path = "fake/world.rs"]
mod world;

use fake::play_with;
use scenarios::stage::Kind;
use scenarios::{play_all, play_refusals};

macro_rules! on_fake {
    ($module:ident::$name:ident) => { on_fake!($module::$name: Http); };
    ($module:ident::$name:ident: $kind:ident) => {
        #[tokio::test(start_paused = true)]
        async fn $name() {
            play_with(Kind::$kind, scenarios::$module::$name).await;
        }
    };
}

play_all!(on_fake);
play_refusals!(on_fake);
