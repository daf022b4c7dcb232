#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod engine;
mod haproxy;
mod logins;
#[cfg(feature = "oci")]
mod oci;
mod orchestrator;
mod registry;

pub use engine::Engine;
pub use haproxy::{Certificate, Frontend, HaProxy, HaProxyBuilder, Sticky};
pub use logins::Logins;
#[cfg(feature = "oci")]
#[cfg_attr(docsrs, doc(cfg(feature = "oci")))]
pub use oci::OciRegistry;
pub use orchestrator::Docker;
pub use registry::{DockerRegistry, LocalImages};
