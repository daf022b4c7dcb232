//! HAProxy as load balancer, against the real one in a container, with real targets.
//!
//! The images are those that `cargo xtask parts` makes.

mod lifecycle;
mod refusals;
mod routing;
mod targets;
mod world;
