#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "load")]
pub mod load;

mod tally;

pub use tally::{Failure, Tally};
