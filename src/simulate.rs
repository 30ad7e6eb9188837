//! Replays a recorded load through strategies and scores them.

mod demand;
pub mod output;
mod plant;
mod replay;
mod run;
pub mod scenario;
mod score;
pub mod strategy;
mod window;

pub use demand::{Demand, TooShort};
pub use plant::{Fleet, Plant};
pub use replay::{Change, Replay, replay};
pub use run::{Outcome, Setup, derived_capacity, simulate, simulate_own, simulate_watched};
pub use score::{Coverage, ForecastScore, Pinball, Score};
