//! What a number of ready QueryNodes carries within the SLO.

mod curve;
mod usl;

pub use curve::Curve;
pub use usl::Usl;

use crate::units::{Qps, Replicas};

/// SLO-safe capacity by number of replicas: never decreasing, 0 at 0 replicas.
#[derive(Debug, Clone, PartialEq)]
pub enum Capacity {
    /// Each replica adds the same.
    Linear {
        /// What one replica carries, above 0.
        per_replica: Qps,
    },
    /// Replicas add less, or more, than the one before.
    Curve(Curve),
}

impl Capacity {
    /// Capacity that grows by the same amount with each replica.
    ///
    /// # Errors
    /// If a replica carries nothing.
    pub fn linear(per_replica: Qps) -> Result<Self, CapacityError> {
        if per_replica > Qps::ZERO { Ok(Self::Linear { per_replica }) } else { Err(CapacityError::Nothing) }
    }

    /// Capacity measured at some replica counts, in ascending order. See [`Curve::new`].
    ///
    /// # Errors
    /// If the points are no capacity curve.
    pub fn curve(points: &[(Replicas, Qps)]) -> Result<Self, CapacityError> {
        Curve::new(points).map(Self::Curve)
    }

    /// What `replicas` carry together.
    #[must_use]
    pub fn of(&self, replicas: Replicas) -> Qps {
        match self {
            Self::Linear { per_replica } => Qps::clamped(per_replica.get() * replicas.as_f64()),
            Self::Curve(curve) => curve.of(replicas),
        }
    }

    /// The fewest replicas that carry `demand`; `max` where none up to `max` do.
    #[must_use]
    pub fn replicas_for(&self, demand: Qps, max: Replicas) -> Replicas {
        let guess = match self {
            Self::Linear { per_replica } => Replicas::at_least(demand.get() / per_replica.get()),
            Self::Curve(curve) => curve.replicas_for(demand),
        };
        self.settle(guess.min(max), demand, max)
    }

    /// Moves a guess that rounding has put one off to the exact answer.
    fn settle(&self, guess: Replicas, demand: Qps, max: Replicas) -> Replicas {
        let mut replicas = guess;
        while replicas > Replicas(0) && self.of(replicas - Replicas(1)) >= demand {
            replicas = replicas - Replicas(1);
        }
        while replicas < max && self.of(replicas) < demand {
            replicas = replicas + Replicas(1);
        }
        replicas
    }
}

/// Numbers that describe no capacity.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum CapacityError {
    /// A replica, or the first point of a curve, carries nothing.
    #[error("a replica must carry more than 0 QPS")]
    Nothing,
    /// No point was given.
    #[error("a capacity curve needs at least one point")]
    NoPoints,
    /// A point at 0 replicas, or beyond what a curve may hold.
    #[error("{0} replicas in a capacity curve: between 1 and {max} are possible", max = Curve::MAX_REPLICAS)]
    Replicas(Replicas),
    /// Points that are not in ascending order of replicas.
    #[error("the points of a capacity curve must have ascending replicas: {after} comes after {before}")]
    Order {
        /// The earlier point.
        before: Replicas,
        /// The later point, which has no more replicas.
        after: Replicas,
    },
    /// More replicas that carry less.
    #[error("{replicas} replicas carry less ({qps}) than fewer do: a capacity curve never falls")]
    Falling {
        /// The replicas that carry less.
        replicas: Replicas,
        /// What they carry.
        qps: Qps,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_capacity() -> impl Strategy<Value = Capacity> {
        let linear = (1e-3..1e6_f64).prop_map(|q| Capacity::linear(Qps::clamped(q)).unwrap());
        let curve = prop::collection::vec((1_u32..9, 0.0..500.0_f64), 1..6).prop_map(|increments| {
            let (mut replicas, mut qps) = (0, 1.0);
            let points: Vec<_> = increments
                .iter()
                .map(|(r, q)| {
                    (replicas, qps) = (replicas + r, qps + q);
                    (Replicas(replicas), Qps::clamped(qps))
                })
                .collect();
            Capacity::curve(&points).unwrap()
        });
        prop_oneof![linear, curve]
    }

    proptest! {
        #[test]
        fn replicas_for_is_the_fewest(capacity in any_capacity(), demand in 0.0..5e4_f64, max in 1_u32..200) {
            let demand = Qps::clamped(demand);
            let slow = (0..max).map(Replicas).find(|r| capacity.of(*r) >= demand).unwrap_or(Replicas(max));
            prop_assert_eq!(capacity.replicas_for(demand, Replicas(max)), slow);
        }

        #[test]
        fn capacity_never_falls(capacity in any_capacity(), replicas in 0_u32..300) {
            prop_assert!(capacity.of(Replicas(replicas + 1)) >= capacity.of(Replicas(replicas)));
        }

        #[test]
        fn whole_fleets_carry_exactly_their_capacity(per in 1e-3..1e6_f64, replicas in 0_u32..500) {
            let capacity = Capacity::linear(Qps::clamped(per)).unwrap();
            let demand = capacity.of(Replicas(replicas));
            prop_assert_eq!(capacity.replicas_for(demand, Replicas(1000)), Replicas(replicas));
        }
    }

    #[test]
    fn extremes_do_not_hang() {
        let tiny = Capacity::linear(Qps::clamped(f64::MIN_POSITIVE)).unwrap();
        assert_eq!(tiny.replicas_for(Qps::clamped(f64::MAX), Replicas(60)), Replicas(60));
        assert_eq!(tiny.replicas_for(Qps::ZERO, Replicas(60)), Replicas(0));
        assert_eq!(Capacity::linear(Qps::ZERO), Err(CapacityError::Nothing));
    }
}
