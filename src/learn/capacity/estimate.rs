//! What the points come to: a curve, how far it may be off, and how sure it is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::point::{MOST_UTILIZATION, Point, rounded};
use crate::capacity::{Capacity, Usl};
use crate::policy::Policy;
use crate::policy::status::{CapacityPoint, CapacityStatus, CurvePointStatus, Origin};
use crate::units::{Qps, Replicas};

/// How far off, in logarithms, an estimate may be of which nothing is sure.
const UNSURE: f64 = 0.5;
/// How far off one is at least, whatever its points say.
const NOISE: f64 = 0.03;
/// What each replica beyond those that were seen adds, as a share of what these carry on average: at most, as
/// replicas share work, and at least, so that a fit to noise does not ask for the whole fleet.
const BEYOND: (f64, f64) = (0.5, 0.8);

/// What QueryNodes carry, as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct CapacityEstimate {
    /// What to plan with: below the middle of the estimate, the further the less sure it is.
    pub capacity: Capacity,
    /// How sure it is, from 0 to 1.
    pub confidence: f64,
    /// The curve that is planned with, by replicas.
    curve: Vec<(Replicas, Qps)>,
    /// Factors from what is planned with to the least and the most that it may be.
    bounds: (f64, f64),
    points: Vec<CapacityPoint>,
    updated: Option<Timestamp>,
}

/// Numbers of replicas with what they carry, and how much that counts.
type Seen = BTreeMap<Replicas, (f64, f64)>;

impl CapacityEstimate {
    pub(super) fn of(points: &[Point], policy: &Policy, now: Timestamp) -> Option<Self> {
        let target = policy.target_utilization.get();
        let seen = seen(points, target, now);
        let allowed = allowed(points, target, policy.slo.p99_latency.is_some(), now);
        let middle = curve(&seen, allowed, policy.max_replicas)?;
        let capacity = Capacity::curve(&middle).ok()?;
        let confidence = confidence(points, now);
        let spread = spread(points, &seen, target, now);
        let off = (spread + UNSURE * (1.0 - confidence)).clamp(NOISE, 3.0 * UNSURE);
        let caution = (-off / 2.0).exp();
        let curve: Vec<_> =
            middle.iter().map(|(replicas, qps)| (*replicas, Qps::clamped(qps.get() * caution))).collect();
        let cautious = Capacity::curve(&curve).unwrap_or(capacity);
        Some(Self {
            capacity: cautious,
            confidence,
            curve,
            bounds: ((-off / 2.0).exp(), (1.5 * off).exp()),
            points: points.iter().copied().map(Point::to_status).collect(),
            updated: points.iter().map(|point| point.at).max(),
        })
    }

    /// What one more replica adds when there are `replicas`, and what one of these carries on average if that is less.
    #[must_use]
    pub fn per_replica(&self, replicas: Replicas) -> Qps {
        let replicas = replicas.max(Replicas(1));
        let of = |replicas| self.capacity.of(replicas).get();
        let next = of(replicas + Replicas(1)) - of(replicas);
        Qps::clamped(next.min(of(replicas) / replicas.as_f64()))
    }

    /// It for the status, while there are `replicas`.
    #[must_use]
    pub fn status(&self, replicas: Replicas) -> CapacityStatus {
        let per_replica = self.per_replica(replicas).get();
        let (least, most) = self.bounds;
        let point = |(replicas, qps): &(Replicas, Qps)| CurvePointStatus {
            replicas: i32::try_from(replicas.0).unwrap_or(i32::MAX),
            qps: rounded(qps.get()),
        };
        CapacityStatus {
            origin: Origin::Learned,
            qps_per_replica: Some(rounded(per_replica)),
            lower_qps_per_replica: Some(rounded(per_replica * least)),
            upper_qps_per_replica: Some(rounded(per_replica * most)),
            curve: self.curve.iter().map(point).collect(),
            confidence: (self.confidence * 100.0).round() / 100.0,
            points: self.points.clone(),
            updated: self.updated.map(|at| Time(Timestamp::from_second(at.as_second()).unwrap_or(at))),
        }
    }
}

/// What each number of replicas carries at the target utilisation.
fn seen(points: &[Point], target: f64, now: Timestamp) -> Seen {
    let mut by_replicas: BTreeMap<Replicas, Vec<(f64, f64)>> = BTreeMap::new();
    for point in points {
        by_replicas.entry(point.replicas).or_default().push((point.at_target(target), point.weight(now)));
    }
    let summary = |values: Vec<(f64, f64)>| {
        let weight = values.iter().map(|(_, weight)| weight).sum::<f64>();
        Some((weighted_median(values)?, weight))
    };
    by_replicas.into_iter().filter_map(|(replicas, values)| Some((replicas, summary(values)?))).collect()
}

/// By how much what latency allows differs from the target utilisation, as a factor.
fn allowed(points: &[Point], target: f64, has_slo: bool, now: Timestamp) -> f64 {
    if !has_slo {
        return 1.0;
    }
    let weigh = |is_of: &dyn Fn(&Point) -> bool| -> Vec<(f64, f64)> {
        points.iter().filter(|p| is_of(p)).map(|p| (p.utilization, p.weight(now))).collect()
    };
    let total = |values: &[(f64, f64)]| values.iter().map(|(_, weight)| weight).sum::<f64>();
    let towards = |values: Vec<(f64, f64)>, against: f64| {
        let weight = total(&values);
        weighted_median(values).map(|utilization| {
            (utilization.min(MOST_UTILIZATION) / target).powf(weight / (weight + against + 1.0))
        })
    };
    let late = weigh(&|p| !p.signal.is_law() && p.utilization < target);
    if let Some(first) = late.iter().map(|(utilization, _)| *utilization).reduce(f64::min) {
        // At as much or more, without being late.
        let against =
            total(&weigh(&|p| (p.signal.is_law() || p.utilization > target) && p.utilization >= first));
        return towards(late, against).unwrap_or(1.0);
    }
    let comfortable = weigh(&|p| !p.signal.is_law() && p.utilization > target);
    // At as much, and not comfortable.
    let against = total(&weigh(&|p| p.signal.is_law() && p.utilization > target));
    towards(comfortable, against).unwrap_or(1.0)
}

/// The curve by replicas up to `max`: the Universal Scalability Law through what was seen, and a little beyond.
fn curve(seen: &Seen, allowed: f64, max: Replicas) -> Option<Vec<(Replicas, Qps)>> {
    let observed: Vec<_> =
        seen.iter().map(|(replicas, (qps, _))| (*replicas, Qps::clamped(qps * allowed))).collect();
    let law = Usl::fit(&observed).ok()?;
    let mut best = 0.0_f64;
    let mut points: Vec<_> = observed
        .iter()
        .map(|(replicas, _)| {
            best = best.max(law.at(*replicas).get());
            (*replicas, Qps::clamped(best))
        })
        .collect();
    let (last, carried) = points.last().copied()?;
    if last < max {
        let average = carried.get() / last.as_f64();
        let gain = law.at(last + Replicas(1)).get() - law.at(last).get();
        let gain = gain.clamp(BEYOND.0 * average, BEYOND.1 * average);
        points.push((max, Qps::clamped(carried.get() + gain * (max - last).as_f64())));
    }
    Some(points)
}

/// How sure points make, from 0 to 1: half with one that counts fully.
fn confidence(points: &[Point], now: Timestamp) -> f64 {
    let weight: f64 = points.iter().map(|point| point.weight(now)).sum();
    1.0 - 0.5_f64.powf(weight)
}

/// How far points lie from what was made of them, in logarithms: the median.
fn spread(points: &[Point], seen: &Seen, target: f64, now: Timestamp) -> f64 {
    let off = |point: &Point| {
        let (middle, _) = seen.get(&point.replicas)?;
        Some(((point.at_target(target) / middle).ln().abs(), point.weight(now)))
    };
    weighted_median(points.iter().filter_map(off).collect()).unwrap_or(0.0)
}

/// The least value up to which half of the weight lies.
fn weighted_median(mut values: Vec<(f64, f64)>) -> Option<f64> {
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = values.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut weight = 0.0;
    values.iter().find_map(|(value, more)| {
        weight += more;
        (weight >= half).then_some(*value)
    })
}
