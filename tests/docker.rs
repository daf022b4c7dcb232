//! The scenarios on real parts: a Docker Engine, HAProxy, real requests; and those that only such parts can play.

#[path = "docker/stage.rs"]
mod docker;
#[path = "docker/parts.rs"]
mod parts;
mod scenarios;

use docker::play;
use scenarios::play_all;

macro_rules! on_docker {
    ($module:ident::$name:ident) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            play(scenarios::$module::$name).await;
        }
    };
}

play_all!(on_docker);
