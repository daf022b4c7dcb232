//! The scenarios on real parts: a Docker Engine, HAProxy, real requests; and those that only such parts can play.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]
#![allow(clippy::future_not_send, reason = "a test is played where it begins")]

#[path = "docker/connections.rs"]
mod connections;
#[path = "docker/stage.rs"]
mod docker;
#[path = "docker/parts.rs"]
mod parts;
#[path = "docker/registry.rs"]
mod registry;
mod scenarios;
#[path = "docker/watch.rs"]
mod watch;

use docker::{Docker, play, play_with};
use scenarios::stage::Kind;
use scenarios::{play_all, play_refusals};

macro_rules! on_docker {
    ($module:ident::$name:ident) => { on_docker!($module::$name: Http); };
    ($module:ident::$name:ident: $kind:ident) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            play_with(Kind::$kind, scenarios::$module::$name).await;
        }
    };
}

play_all!(on_docker);

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_before_anything_has_moved() {
    play(async |stage: &Docker| {
        macro_rules! here {
            ($module:ident::$name:ident) => {
                scenarios::$module::$name(stage).await;
            };
        }
        play_refusals!(here);
    })
    .await;
}
