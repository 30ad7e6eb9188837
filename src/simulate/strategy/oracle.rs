//! `oracle`: what one would do who sees the future.

use super::{Context, Proposal, Strategy, StrategyKind, View};
use crate::simulate::window::highest_ahead;
use crate::units::Replicas;

/// The least replica-hours without a violation: at each step the most that is needed from now until a replica that is
/// added now is ready.
#[derive(Debug)]
pub(super) struct Oracle {
    wanted: Vec<Replicas>,
}

impl Oracle {
    pub(super) fn new(context: Context<'_>) -> Self {
        let (plant, demand) = (context.plant, context.demand);
        let needed: Vec<_> = (0..demand.len()).map(|t| plant.needed(demand.at(t))).collect();
        Self { wanted: highest_ahead(&needed, plant.lead_steps()) }
    }
}

impl Strategy for Oracle {
    fn name(&self) -> &'static str {
        StrategyKind::Oracle.name()
    }

    fn propose(&mut self, view: &View<'_>) -> Proposal {
        self.wanted.get(view.step).copied().unwrap_or(view.desired).into()
    }
}
