#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod engine;
mod haproxy;
mod orchestrator;
mod registry;

pub use engine::Engine;
pub use haproxy::{Frontend, HaProxy, HaProxyBuilder};
pub use orchestrator::Docker;
pub use registry::{DockerRegistry, LocalImages};
