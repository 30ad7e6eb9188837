//! `hpa` and `hpa-50`: the Kubernetes HPA with its defaults, on modelled CPU utilisation.

use super::{Proposal, Strategy, View};
use crate::decide::behavior::{BehaviorState, HpaBehavior, normalize};
use crate::simulate::plant::Plant;
use crate::units::Replicas;

/// Utilisation this close to the target, relatively, changes nothing.
const TOLERANCE: f64 = 0.1;

/// The HPA, synchronised at every step.
#[derive(Debug)]
pub(super) struct Hpa {
    name: &'static str,
    plant: Plant,
    target: f64,
    behavior: HpaBehavior,
    state: BehaviorState,
}

impl Hpa {
    pub(super) fn new(name: &'static str, plant: &Plant, target: f64) -> Self {
        let (behavior, state) = (HpaBehavior::kubernetes(), BehaviorState::default());
        Self { name, plant: plant.clone(), target, behavior, state }
    }

    /// Utilisation over its target; `None` without data.
    fn ratio(&self, view: &View<'_>) -> Option<f64> {
        Some(self.plant.utilisation(view.last()?, view.ready) / self.target)
    }

    /// Replicas wanted by the metric alone; `None` without data.
    pub(super) fn recommend(&self, view: &View<'_>) -> Option<Replicas> {
        self.ratio(view).map(|ratio| recommendation(ratio, view.ready, view.desired))
    }

    /// Replicas in proportion to the load, before any tolerance; `None` without data.
    pub(super) fn proportional(&self, view: &View<'_>) -> Option<Replicas> {
        self.ratio(view).map(|ratio| Replicas::at_least(ratio * view.ready.as_f64()))
    }

    /// Stabilises a recommendation, limits how fast it is followed, and keeps it within the bounds.
    pub(super) fn behave(&mut self, view: &View<'_>, recommended: Replicas) -> Replicas {
        let (min, max) = (self.plant.min, self.plant.max);
        let (desired, _) =
            normalize(&mut self.state, &self.behavior, view.now, view.desired, recommended, min, max);
        self.state.record_scale(&self.behavior, view.now, view.desired, desired);
        desired
    }
}

impl Strategy for Hpa {
    fn name(&self) -> &'static str {
        self.name
    }

    fn propose(&mut self, view: &View<'_>) -> Proposal {
        match self.recommend(view) {
            Some(recommended) => self.behave(view, recommended).into(),
            // Without metrics the HPA does nothing.
            None => view.desired.into(),
        }
    }
}

/// The replica calculator: `ratio` is utilisation over target; pods on their way count as idle on the way up.
fn recommendation(ratio: f64, ready: Replicas, current: Replicas) -> Replicas {
    let starting = current - ready;
    let within = |ratio: f64| (1.0 - TOLERANCE..=1.0 + TOLERANCE).contains(&ratio);
    if starting == Replicas(0) || ratio <= 1.0 {
        return if within(ratio) { current } else { Replicas::at_least(ratio * ready.as_f64()) };
    }
    let with_starting = ratio * ready.as_f64() / current.as_f64();
    if within(with_starting) || with_starting < 1.0 {
        return current;
    }
    Replicas::at_least(with_starting * current.as_f64()).max(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replica_calculator() {
        // (ratio, ready, current, recommended)
        let cases = [
            (1.0, 10, 10, 10),
            (1.1, 10, 10, 10),
            (1.11, 10, 10, 12),
            (0.9, 10, 10, 10),
            (0.89, 10, 10, 9),
            (0.0, 10, 10, 0),
            (1.5, 4, 4, 6),
            // Two are on their way: 1.5 × 4 / 6 = 1 is within the tolerance.
            (1.5, 4, 6, 6),
            (1.2, 4, 8, 8),
            (2.0, 4, 6, 8),
            // On the way down only ready pods count.
            (0.5, 4, 6, 2),
        ];
        for (ratio, ready, current, expected) in cases {
            let got = recommendation(ratio, Replicas(ready), Replicas(current));
            assert_eq!(got, Replicas(expected), "ratio {ratio}, {ready} of {current} ready");
        }
    }
}
