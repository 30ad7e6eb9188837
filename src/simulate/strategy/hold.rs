//! `static`: the fleet that carries the peak, all the time.

use super::{Context, Proposal, Strategy, StrategyKind, View};
use crate::units::{Qps, Replicas};

/// As many replicas as the highest demand of the scored part needs, from the first step on.
#[derive(Debug)]
pub(super) struct Static {
    replicas: Replicas,
}

impl Static {
    pub(super) fn new(context: Context<'_>) -> Self {
        let scored = (context.warmup..context.demand.len()).filter(|t| context.demand.is_known(*t));
        let peak = scored.map(|t| context.demand.at(t).get()).fold(0.0, f64::max);
        Self { replicas: context.plant.needed(Qps::clamped(peak)) }
    }
}

impl Strategy for Static {
    fn name(&self) -> &'static str {
        StrategyKind::Static.name()
    }

    fn propose(&mut self, _: &View<'_>) -> Proposal {
        self.replicas.into()
    }
}
