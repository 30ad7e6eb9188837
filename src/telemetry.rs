//! What the controller tells of itself: metrics, health, logs.

mod health;
mod logs;
mod metrics;

pub use health::{Health, router, serve};
pub use logs::{LogFormat, start as start_logs};
pub use metrics::{Direction, Metrics, Object, ReplicaKind};
