//! A point: what a few minutes at one number of replicas say of capacity.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::sample::Sample;
use crate::capacity::Curve;
use crate::policy::Policy;
use crate::policy::status::CapacityPoint;
use crate::units::Replicas;

/// The days after which a point counts half.
const HALF_LIFE_DAYS: f64 = 2.0;
/// From this utilisation on a point counts fully.
const TELLING: f64 = 0.5;
/// What the least busy point counts.
const FAINT: f64 = 0.05;
/// Late searches are the load's fault only at this share of the target utilisation or above it: below, something else
/// is slow, and more replicas would not mend it.
const BUSY: f64 = 0.6;
/// p99 below this share of its target is well within it.
const COMFORTABLE: f64 = 0.8;
/// The share of the latency target that searches may wait in the queue.
const WAITING: f64 = 0.5;
/// Utilisation that is trusted at most, however well latency does: beyond it, queues grow without warning.
pub(super) const MOST_UTILIZATION: f64 = 0.85;

/// What a point was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Utilisation alone: latency does not contradict it, or is not measured.
    Utilization,
    /// p99 passed its target below the target utilisation, or stayed within it above.
    Latency,
    /// Searches waited too long below the target utilisation.
    QueueTime,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Utilization => "Utilization",
            Self::Latency => "Latency",
            Self::QueueTime => "QueueTime",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        [Self::Utilization, Self::Latency, Self::QueueTime].into_iter().find(|signal| signal.name() == name)
    }

    /// Whether it says what the utilisation law does, and nothing else.
    pub(super) fn is_law(self) -> bool {
        self == Self::Utilization
    }
}

/// What a few minutes say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// When they ended.
    pub(super) at: Timestamp,
    /// Replicas that served.
    pub(super) replicas: Replicas,
    /// What they would have carried within the SLO by this point alone; above 0 and finite.
    pub(super) qps: f64,
    pub(super) signal: Signal,
    /// Utilisation of the busiest; above 0 and finite.
    pub(super) utilization: f64,
}

impl Point {
    /// What a sample says; `None` if that is no number.
    pub(super) fn of(sample: &Sample, policy: &Policy) -> Option<Self> {
        let target = policy.target_utilization.get();
        let (load, utilization) = (sample.load.get(), sample.utilization);
        let late = sample.latency.is_some_and(|latency| latency > 1.0);
        let waits = sample.queue.is_some_and(|queue| queue > WAITING);
        let comfortable = sample.latency.is_some_and(|latency| latency <= COMFORTABLE) && !waits;
        let busy = (BUSY * target..target).contains(&utilization);
        let above = utilization > target && utilization <= MOST_UTILIZATION;
        let (qps, signal) = match () {
            () if busy && late => (load, Signal::Latency),
            () if busy && waits => (load, Signal::QueueTime),
            () if above && comfortable => (load, Signal::Latency),
            () => (load * target / utilization, Signal::Utilization),
        };
        Self { at: sample.at, replicas: sample.replicas, qps, signal, utilization }.checked()
    }

    pub(super) fn from_status(point: &CapacityPoint) -> Option<Self> {
        Self {
            at: point.time.0,
            replicas: Replicas(u32::try_from(point.replicas).ok()?),
            qps: point.qps,
            signal: Signal::of_name(&point.signal)?,
            utilization: point.utilization,
        }
        .checked()
    }

    pub(super) fn to_status(self) -> CapacityPoint {
        CapacityPoint {
            time: Time(Timestamp::from_second(self.at.as_second()).unwrap_or(self.at)),
            replicas: i32::try_from(self.replicas.0).unwrap_or(i32::MAX),
            qps: rounded(self.qps),
            signal: self.signal.name().to_owned(),
            utilization: rounded(self.utilization),
        }
    }

    fn checked(self) -> Option<Self> {
        let number = |value: f64| value.is_normal() && value > 0.0;
        let replicas = Replicas(1)..=Curve::MAX_REPLICAS;
        (replicas.contains(&self.replicas) && number(self.qps) && number(self.utilization)).then_some(self)
    }

    /// What it would have carried at utilisation `target`, by the utilisation law.
    pub(super) fn at_target(&self, target: f64) -> f64 {
        if self.signal.is_law() { self.qps } else { self.qps * target / self.utilization }
    }

    /// How much it counts, from 0 to 1: less at low utilisation, and with age.
    pub(super) fn weight(&self, now: Timestamp) -> f64 {
        let days = now.duration_since(self.at).as_secs_f64().max(0.0) / 86_400.0;
        (self.utilization / TELLING).powi(2).clamp(FAINT, 1.0) * 0.5_f64.powf(days / HALF_LIFE_DAYS)
    }
}

/// Four digits, so that a status does not change with every breath.
pub(super) fn rounded(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10_f64.powf(3.0 - value.log10().floor());
    let rounded = (value * scale).round() / scale;
    if rounded.is_finite() { rounded } else { value }
}
