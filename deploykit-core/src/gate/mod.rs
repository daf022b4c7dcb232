//! Gates that measure a candidate: over HTTP, TCP, by a command, by a function, and several of them together.

mod combine;
#[cfg(feature = "command-gate")]
mod command;
mod function;
#[cfg(feature = "http-gate")]
mod http;
mod tcp;

pub use combine::{AllOf, AnyOf, all_of, any_of};
#[cfg(feature = "command-gate")]
#[cfg_attr(docsrs, doc(cfg(feature = "command-gate")))]
pub use command::CommandGate;
pub use function::{FunctionGate, gate_fn};
#[cfg(feature = "http-gate")]
#[cfg_attr(docsrs, doc(cfg(feature = "http-gate")))]
pub use http::HttpGate;
pub use tcp::TcpGate;
