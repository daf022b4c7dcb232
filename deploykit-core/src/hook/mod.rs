//! Hooks: a function, a gate, a request over HTTP, a command.

#[cfg(feature = "command-gate")]
mod command;
mod function;
#[cfg(feature = "http-gate")]
mod http;

#[cfg(feature = "command-gate")]
#[cfg_attr(docsrs, doc(cfg(feature = "command-gate")))]
pub use command::CommandHook;
pub use function::{FunctionHook, GateHook, hook_fn, hook_of};
#[cfg(feature = "http-gate")]
#[cfg_attr(docsrs, doc(cfg(feature = "http-gate")))]
pub use http::HttpHook;
