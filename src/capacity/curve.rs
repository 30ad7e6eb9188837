//! Capacity measured at some replica counts.

use super::CapacityError;
use crate::units::{Qps, Replicas};

/// A capacity curve: straight lines between the measured points, from 0 at 0 replicas.
///
/// Beyond the last point a replica adds no more than the last one measured did, and no more than the average so far:
/// unmeasured capacity is not promised.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What 0, 1, 2 … replicas carry, up to the last point.
    table: Vec<f64>,
    /// What each replica beyond the table adds.
    beyond: f64,
}

impl Curve {
    /// The most replicas that a point may have.
    pub const MAX_REPLICAS: Replicas = Replicas(100_000);

    /// A curve through `points`, which ascend in replicas and never fall in what these carry.
    ///
    /// # Errors
    /// If there is no point, a point has 0 or more than [`Self::MAX_REPLICAS`] replicas, the first carries nothing,
    /// or the points are out of order or fall.
    pub fn new(points: &[(Replicas, Qps)]) -> Result<Self, CapacityError> {
        let mut table = vec![0.0];
        for &(replicas, qps) in points {
            if replicas == Replicas(0) || replicas > Self::MAX_REPLICAS {
                return Err(CapacityError::Replicas(replicas));
            }
            extend(&mut table, replicas, qps)?;
        }
        if points.is_empty() {
            return Err(CapacityError::NoPoints);
        }
        let beyond = beyond(points);
        Ok(Self { table, beyond })
    }

    /// A curve from what 1, 2, 3 … replicas carry; a fall is flattened, and nothing is promised beyond the last.
    pub(super) fn from_table(carried: impl Iterator<Item = f64>) -> Self {
        let mut table = vec![0.0];
        let mut best = 0.0_f64;
        table.extend(carried.map(|qps| {
            best = best.max(qps);
            best
        }));
        Self { table, beyond: 0.0 }
    }

    pub(super) fn of(&self, replicas: Replicas) -> Qps {
        let known = Replicas(u32::try_from(self.table.len() - 1).unwrap_or(u32::MAX));
        match self.table.get(replicas.0 as usize) {
            Some(qps) => Qps::clamped(*qps),
            None => Qps::clamped(self.last() + self.beyond * (replicas - known).as_f64()),
        }
    }

    /// The fewest replicas that carry `demand`, exact but for rounding; the largest number if none do.
    pub(super) fn replicas_for(&self, demand: Qps) -> Replicas {
        let within = self.table.partition_point(|qps| *qps < demand.get());
        if within < self.table.len() {
            return Replicas(u32::try_from(within).unwrap_or(u32::MAX));
        }
        let more = (demand.get() - self.last()) / self.beyond;
        Replicas::at_least((self.table.len() - 1) as f64 + more)
    }

    fn last(&self) -> f64 {
        self.table.last().copied().unwrap_or(0.0)
    }
}

/// Fills the table up to a new point with a straight line from the last entry.
fn extend(table: &mut Vec<f64>, replicas: Replicas, qps: Qps) -> Result<(), CapacityError> {
    let from = Replicas(u32::try_from(table.len() - 1).unwrap_or(u32::MAX));
    let start = table.last().copied().unwrap_or(0.0);
    if replicas <= from {
        return Err(CapacityError::Order { before: from, after: replicas });
    }
    if qps.get() < start {
        return Err(CapacityError::Falling { replicas, qps });
    }
    if qps == Qps::ZERO {
        return Err(CapacityError::Nothing);
    }
    let rise = (qps.get() - start) / (replicas - from).as_f64();
    let steps = (replicas - from).0;
    table.extend((1..steps).map(|i| start + rise * f64::from(i)));
    table.push(qps.get());
    Ok(())
}

/// What a replica beyond the last point adds: the lesser of the last slope and the average.
fn beyond(points: &[(Replicas, Qps)]) -> f64 {
    let at = |back: usize| {
        points
            .len()
            .checked_sub(back)
            .and_then(|i| points.get(i))
            .map_or((0.0, 0.0), |(r, q)| (r.as_f64(), q.get()))
    };
    let ((replicas, qps), (before, below)) = (at(1), at(2));
    ((qps - below) / (replicas - before)).min(qps / replicas)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(u32, f64)]) -> Result<Curve, CapacityError> {
        let points: Vec<_> = points.iter().map(|&(r, q)| (Replicas(r), Qps::clamped(q))).collect();
        Curve::new(&points)
    }

    #[test]
    fn straight_lines_between_points_and_no_promise_beyond_them() {
        type Case<'a> = (&'a [(u32, f64)], u32, f64);
        // (points, replicas, capacity)
        let published = [(1, 7153.0), (2, 15903.0), (4, 19281.0), (8, 30655.0)];
        let cases: [Case<'_>; 9] = [
            (&published, 0, 0.0),
            (&published, 1, 7153.0),
            (&published, 3, 17592.0),
            (&published, 8, 30655.0),
            (&published, 9, 30655.0 + 2843.5), // the last slope, below the average of 3832
            (&[(1, 10.0), (2, 30.0)], 3, 45.0), // the average of 15, below the last slope of 20
            (&[(4, 340.0)], 1, 85.0),
            (&[(4, 340.0)], 6, 510.0),
            (&[(1, 95.0), (4, 95.0)], 9, 95.0),
        ];
        for (points, replicas, expected) in cases {
            let carried = curve(points).unwrap().of(Replicas(replicas)).get();
            assert!((carried - expected).abs() < 1e-9, "{points:?} at {replicas}: {carried}");
        }
    }

    #[test]
    fn what_is_no_curve_is_refused() {
        assert_eq!(curve(&[]), Err(CapacityError::NoPoints));
        assert_eq!(curve(&[(0, 1.0)]), Err(CapacityError::Replicas(Replicas(0))));
        assert_eq!(curve(&[(u32::MAX, 1.0)]), Err(CapacityError::Replicas(Replicas(u32::MAX))));
        assert_eq!(curve(&[(1, 0.0)]), Err(CapacityError::Nothing));
        assert!(matches!(curve(&[(2, 5.0), (2, 6.0)]), Err(CapacityError::Order { .. })));
        assert!(matches!(curve(&[(1, 5.0), (2, 4.0)]), Err(CapacityError::Falling { .. })));
    }
}
