//! The modelled fleet: replicas that take time to help, and cost until they are gone.

use jiff::SignedDuration;

use crate::capacity::Capacity;
use crate::series::Step;
use crate::units::{Qps, Replicas};

/// Capacity is what keeps the SLO; the CPU is saturated at `capacity / 0.85`.
const UTILISATION_AT_CAPACITY: f64 = 0.85;

/// What the fleet is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Plant {
    /// How often a strategy decides.
    pub step: Step,
    /// From asking for a replica until it helps.
    pub lead_time: SignedDuration,
    /// How long a replica that stops serving is still paid.
    pub drain_time: SignedDuration,
    /// What the replicas carry within the SLO.
    pub capacity: Capacity,
    /// The fewest replicas.
    pub min: Replicas,
    /// The most replicas.
    pub max: Replicas,
}

impl Plant {
    /// The lead time in steps, rounded up.
    #[must_use]
    pub fn lead_steps(&self) -> usize {
        self.step.count_in(self.lead_time)
    }

    /// The fewest replicas within the bounds that carry `demand`; the most if none do.
    #[must_use]
    pub fn needed(&self, demand: Qps) -> Replicas {
        self.capacity.replicas_for(demand, self.max).max(self.min)
    }

    /// Modelled CPU utilisation of `ready` replicas under `demand`, 1 at most.
    #[must_use]
    pub fn utilisation(&self, demand: Qps, ready: Replicas) -> f64 {
        let capacity = self.capacity.of(ready).get();
        if capacity > 0.0 { (UTILISATION_AT_CAPACITY * demand.get() / capacity).min(1.0) } else { 1.0 }
    }
}

/// The fleet as it stands.
#[derive(Debug, Clone)]
pub struct Fleet {
    ready: Replicas,
    /// The step at which each replica on its way becomes ready, oldest first.
    arrivals: Vec<usize>,
    /// Replicas that no longer serve, with the seconds for which they are still paid.
    draining: Vec<(Replicas, f64)>,
}

impl Fleet {
    /// A fleet of ready replicas.
    #[must_use]
    pub fn new(ready: Replicas) -> Self {
        Self { ready, arrivals: Vec::new(), draining: Vec::new() }
    }

    /// Replicas that serve.
    #[must_use]
    pub fn ready(&self) -> Replicas {
        self.ready
    }

    /// Replicas asked for: ready ones and those on their way.
    #[must_use]
    pub fn desired(&self) -> Replicas {
        self.ready + Replicas(u32::try_from(self.arrivals.len()).unwrap_or(u32::MAX))
    }

    /// The step at which each replica on its way becomes ready, oldest first.
    #[must_use]
    pub fn arrivals(&self) -> &[usize] {
        &self.arrivals
    }

    /// Makes those replicas ready whose time has come.
    pub fn arrive(&mut self, step: usize) {
        let come = self.arrivals.partition_point(|at| *at <= step);
        self.arrivals.drain(..come);
        self.ready = self.ready + Replicas(u32::try_from(come).unwrap_or(u32::MAX));
    }

    /// Changes the fleet to `desired` replicas: new ones become ready at the step `ready_at`; of too many, those on
    /// their way are cancelled first, newest first, and then ready ones stop serving, paid for `drain_seconds` more.
    pub fn scale_to(&mut self, desired: Replicas, ready_at: usize, drain_seconds: f64) {
        let added = desired.saturating_sub(self.desired());
        self.arrivals.extend((0..added.0).map(|_| ready_at));
        let excess = self.desired().saturating_sub(desired).0 as usize;
        let cancelled = excess.min(self.arrivals.len());
        self.arrivals.truncate(self.arrivals.len() - cancelled);
        let stopped = self.desired().saturating_sub(desired);
        if stopped > Replicas(0) {
            self.ready = self.ready - stopped;
            self.draining.push((stopped, drain_seconds));
        }
    }

    /// Replica-seconds to pay for the next `seconds`: those asked for, and those draining for as long as they do.
    pub fn pay(&mut self, seconds: f64) -> f64 {
        let mut due = self.desired().as_f64() * seconds;
        for (replicas, left) in &mut self.draining {
            due += replicas.as_f64() * left.min(seconds);
            *left -= seconds;
        }
        self.draining.retain(|(_, left)| *left > 0.0);
        due
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replicas_arrive_after_the_lead_time() {
        let mut fleet = Fleet::new(Replicas(2));
        fleet.scale_to(Replicas(4), 15, 120.0);
        assert_eq!((fleet.ready(), fleet.desired()), (Replicas(2), Replicas(4)));
        fleet.arrive(14);
        assert_eq!(fleet.ready(), Replicas(2));
        fleet.arrive(15);
        assert_eq!((fleet.ready(), fleet.desired()), (Replicas(4), Replicas(4)));
    }

    #[test]
    fn the_newest_on_their_way_are_cancelled_first() {
        let mut fleet = Fleet::new(Replicas(2));
        fleet.scale_to(Replicas(3), 10, 120.0);
        fleet.scale_to(Replicas(5), 12, 120.0);
        fleet.scale_to(Replicas(4), 13, 120.0);
        assert_eq!(fleet.arrivals(), [10, 12]);
        fleet.scale_to(Replicas(1), 14, 120.0);
        assert_eq!((fleet.ready(), fleet.desired()), (Replicas(1), Replicas(1)));
        // Only the one that served is drained.
        assert!((fleet.pay(60.0) - 120.0).abs() < 1e-9);
    }

    #[test]
    fn draining_replicas_are_paid_to_the_second() {
        let mut fleet = Fleet::new(Replicas(3));
        fleet.scale_to(Replicas(1), 9, 90.0);
        let paid: Vec<f64> = (0..3).map(|_| fleet.pay(60.0)).collect();
        assert_eq!(paid, [60.0 + 120.0, 60.0 + 60.0, 60.0]);
    }

    proptest! {
        #[test]
        fn replicas_are_conserved_and_paid(
            wishes in prop::collection::vec(0_u32..40, 1..200),
            lead in 0_usize..30,
            drain in 0_u32..400,
        ) {
            let mut fleet = Fleet::new(Replicas(5));
            for (t, wish) in wishes.iter().enumerate() {
                fleet.arrive(t);
                prop_assert!(fleet.ready() <= fleet.desired());
                fleet.scale_to(Replicas(*wish), t + lead, f64::from(drain));
                prop_assert_eq!(fleet.desired(), Replicas(*wish));
                prop_assert!(fleet.arrivals().is_sorted());
                prop_assert!(fleet.pay(60.0) >= fleet.desired().as_f64() * 60.0);
            }
            fleet.arrive(wishes.len() + lead);
            prop_assert_eq!(fleet.ready(), fleet.desired());
        }
    }
}
