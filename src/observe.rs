//! Where load comes from: recorded traces, and Prometheus.

pub mod csv;
pub mod observation;
pub mod prometheus;
pub mod queries;
pub mod reading;
pub mod recording;
mod trace;

pub use observation::{Known, Observation, QueryNode};
pub use queries::{Family, Queries};
pub use reading::Reading;
pub use recording::Recording;
pub use trace::{Fault, Gap, Row, Trace, TraceBuilder};
