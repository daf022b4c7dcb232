#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod engine;
mod orchestrator;
mod registry;

pub use engine::Engine;
pub use orchestrator::Docker;
pub use registry::{DockerRegistry, LocalImages};
