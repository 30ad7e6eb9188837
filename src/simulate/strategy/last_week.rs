//! `last-week`: the naive forecast that is hard to beat.

use jiff::SignedDuration;

use super::{Proposal, Strategy, StrategyKind, View};
use crate::simulate::plant::Plant;
use crate::units::Qps;

const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);
const AHEAD: SignedDuration = SignedDuration::from_mins(30);

/// The larger of the load now and the highest of last week's next 30 minutes.
#[derive(Debug)]
pub(super) struct LastWeek {
    plant: Plant,
    week: usize,
    ahead: usize,
}

impl LastWeek {
    pub(super) fn new(plant: &Plant) -> Self {
        Self { plant: plant.clone(), week: plant.step.count_in(WEEK), ahead: plant.step.count_in(AHEAD) }
    }

    fn expected(&self, view: &View<'_>) -> Option<Qps> {
        let from = view.step.checked_sub(self.week)?;
        let known = (from..=from + self.ahead).filter_map(|t| view.demand.get(t));
        known.map(Qps::get).reduce(f64::max).map(Qps::clamped)
    }
}

impl Strategy for LastWeek {
    fn name(&self) -> &'static str {
        StrategyKind::LastWeek.name()
    }

    fn propose(&mut self, view: &View<'_>) -> Proposal {
        let wanted =
            [view.last(), self.expected(view)].into_iter().flatten().map(|d| self.plant.needed(d)).max();
        match (wanted, view.last()) {
            (None, _) => view.desired,
            // Without data there is no reason to scale in.
            (Some(wanted), None) => wanted.max(view.desired),
            (Some(wanted), Some(_)) => wanted,
        }
        .into()
    }
}
