//! What nobody tells the autoscaler, and observation does: what QueryNodes carry, how long a new one takes until it
//! helps, and what must stay in memory.
//!
//! Pure: time comes with each observation, by the clock of Prometheus. What is learned is bounded in size, and begins
//! anew from the points that the status holds.
//!
//! | file | what it does |
//! |---|---|
//! | `capacity` | QPS by number of QueryNodes, from utilisation, latency and queue time |
//! | `lead_time` | from asking for a replica until segments have moved to it, from real scale-outs |
//! | `memory` | the fewest QueryNodes that hold what is loaded |
//! | `settling` | whether segments still move |

pub mod capacity;
pub mod lead_time;
pub mod memory;
pub mod settling;

pub use capacity::{CapacityEstimate, CapacityLearner};
pub use lead_time::{LeadTimeEstimate, LeadTimeLearner};
pub use memory::MemoryLearner;
pub use settling::Settling;

#[cfg(test)]
pub(crate) mod tests {
    use jiff::Timestamp;

    use crate::observe::{Observation, Reading};

    pub(crate) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// An observation of nothing.
    pub(crate) fn observation(second: i64) -> Observation {
        Observation {
            at: at(second),
            family: None,
            versions: Vec::new(),
            demand: Reading::Missing,
            offered: Reading::Missing,
            served: Reading::Missing,
            offered_vectors: Reading::Missing,
            served_vectors: Reading::Missing,
            p99: Reading::Missing,
            queue_p99: Reading::Missing,
            backlog: Reading::Missing,
            utilization: Reading::Missing,
            memory: Reading::Missing,
            loading: Reading::Missing,
            draining: Reading::Missing,
            copies: Reading::Missing,
            proxies_scraped: 0,
            proxies_ready: None,
            query_nodes: Vec::new(),
            warning: None,
        }
    }
}
