//! How fast replicas may change: the HPA's `behavior`, with exactly its meaning.
//!
//! Stabilisation looks back on recent, unstabilised recommendations; rate limits look back on recent changes. Both
//! are pure: time is an argument, and what must be remembered is a [`BehaviorState`] that can be stored anywhere.

use std::borrow::Cow;
use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reason;
use crate::units::Replicas;

/// Rules for both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HpaBehavior {
    /// Rules for scaling up.
    pub scale_up: ScalingRules,
    /// Rules for scaling down.
    pub scale_down: ScalingRules,
}

impl HpaBehavior {
    /// The defaults of Kubernetes.
    #[must_use]
    pub fn kubernetes() -> Self {
        Self { scale_up: ScalingRules::kubernetes_up(), scale_down: ScalingRules::kubernetes_down() }
    }
}

/// What holds where the policy sets no `behavior`: scale-downs are stabilised as the HPA does by default, and nothing
/// is limited, as the plan itself weighs every change.
impl Default for HpaBehavior {
    fn default() -> Self {
        let stabilization_window = ScalingRules::kubernetes_down().stabilization_window;
        Self {
            scale_up: ScalingRules::UNLIMITED,
            scale_down: ScalingRules { stabilization_window, ..ScalingRules::UNLIMITED },
        }
    }
}

/// Rules for one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalingRules {
    /// How far back recommendations count.
    pub stabilization_window: SignedDuration,
    /// Which policy counts.
    pub select: SelectPolicy,
    /// The largest changes within a period. None at all: no limit.
    pub policies: Vec<ScalingPolicy>,
}

impl ScalingRules {
    /// No stabilisation and no rate limit.
    pub const UNLIMITED: Self =
        Self { stabilization_window: SignedDuration::ZERO, select: SelectPolicy::Max, policies: Vec::new() };

    /// The HPA's default for scaling up: at once, at most the larger of 4 pods and 100 % in 15 seconds.
    #[must_use]
    pub fn kubernetes_up() -> Self {
        Self {
            stabilization_window: SignedDuration::ZERO,
            select: SelectPolicy::Max,
            policies: vec![
                ScalingPolicy::Pods { value: 4, period: SignedDuration::from_secs(15) },
                ScalingPolicy::Percent { value: 100, period: SignedDuration::from_secs(15) },
            ],
        }
    }

    /// The HPA's default for scaling down: stabilised over 5 minutes, at most 100 % in 15 seconds.
    #[must_use]
    pub fn kubernetes_down() -> Self {
        Self {
            stabilization_window: SignedDuration::from_secs(300),
            select: SelectPolicy::Max,
            policies: vec![ScalingPolicy::Percent { value: 100, period: SignedDuration::from_secs(15) }],
        }
    }

    /// The longest period of its policies.
    fn longest_period(&self) -> SignedDuration {
        self.policies.iter().map(ScalingPolicy::period).max().unwrap_or_default()
    }
}

/// Which of several policies counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectPolicy {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    /// None: no scaling in this direction.
    Disabled,
}

/// The largest change within a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalingPolicy {
    /// At most so many replicas.
    Pods {
        /// How many.
        value: u32,
        /// Within what time.
        period: SignedDuration,
    },
    /// At most so many percent of the replicas at the period's start.
    Percent {
        /// How many percent.
        value: u32,
        /// Within what time.
        period: SignedDuration,
    },
}

impl ScalingPolicy {
    /// Its period.
    #[must_use]
    pub fn period(&self) -> SignedDuration {
        match self {
            Self::Pods { period, .. } | Self::Percent { period, .. } => *period,
        }
    }

    /// The most replicas that it allows after `start` at the beginning of its period.
    fn highest(&self, start: i64) -> i64 {
        match *self {
            Self::Pods { value, .. } => start + i64::from(value),
            // Rounded up, or few replicas would never become more.
            Self::Percent { value, .. } => whole((start as f64 * (1.0 + f64::from(value) / 100.0)).ceil()),
        }
    }

    /// The fewest replicas that it allows after `start` at the beginning of its period.
    fn lowest(&self, start: i64) -> i64 {
        match *self {
            Self::Pods { value, .. } => start - i64::from(value),
            Self::Percent { value, .. } => whole(start as f64 * (1.0 - f64::from(value) / 100.0)),
        }
    }
}

/// A float without its fraction. The HPA reckons in floats, and so do we: 110 % of 100 is 111 there.
#[expect(clippy::cast_possible_truncation, reason = "saturates, and every use compares it with a u32")]
fn whole(value: f64) -> i64 {
    value as i64
}

/// A recommendation before stabilisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recommendation {
    /// When it was made.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// Replicas recommended.
    pub replicas: Replicas,
}

/// A change that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScaleEvent {
    /// When it was made.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// Replicas added; negative if removed.
    pub change: i64,
}

/// What stabilisation and rate limits remember. It stays small, and can be stored and read back at any time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BehaviorState {
    /// Recent recommendations before stabilisation, oldest first; those that can no longer matter are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub recommendations: Vec<Recommendation>,
    /// Recent changes, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub scale_events: Vec<ScaleEvent>,
}

impl BehaviorState {
    /// The most entries of either kind that are kept.
    pub const CAPACITY: usize = 256;

    /// Whether there is nothing to remember.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.recommendations.is_empty() && self.scale_events.is_empty()
    }

    /// Remembers that replicas were changed. To be called when the change has been written.
    pub fn record_scale(&mut self, behavior: &HpaBehavior, now: Timestamp, from: Replicas, to: Replicas) {
        let change = i64::from(to.0) - i64::from(from.0);
        if change != 0 {
            self.scale_events.push(ScaleEvent { at: now, change });
        }
        self.forget_events(behavior, now);
        while self.scale_events.len() > Self::CAPACITY {
            // The two oldest become one, which counts as long as the younger of them.
            let oldest = self.scale_events.remove(0);
            self.scale_events[0].change = self.scale_events[0].change.saturating_add(oldest.change);
        }
    }

    /// Forgets changes that no policy looks back on any more.
    fn forget_events(&mut self, behavior: &HpaBehavior, now: Timestamp) {
        let period = behavior.scale_up.longest_period().max(behavior.scale_down.longest_period());
        let cutoff = back(now, period);
        self.scale_events.retain_mut(|event| {
            // A clock that was ahead must not make a change count for ever.
            event.at = event.at.min(now);
            event.at > cutoff
        });
    }

    /// Remembers a recommendation, and forgets those that can no longer change a result.
    fn record_recommendation(&mut self, behavior: &HpaBehavior, now: Timestamp, replicas: Replicas) {
        let up = back(now, behavior.scale_up.stabilization_window);
        let down = back(now, behavior.scale_down.stabilization_window);
        if up >= now && down >= now {
            self.recommendations.clear();
            return;
        }
        self.recommendations.push(Recommendation { at: now, replicas });
        let (mut lowest, mut highest) = (None::<Replicas>, None::<Replicas>);
        let mut kept = Vec::with_capacity(self.recommendations.len());
        for mut entry in self.recommendations.drain(..).rev() {
            // A clock that was ahead must not make a recommendation last for ever.
            entry.at = entry.at.min(now);
            let (is_lowest, is_highest) =
                (lowest.is_none_or(|l| entry.replicas < l), highest.is_none_or(|h| entry.replicas > h));
            if entry.at > up && is_lowest || entry.at > down && is_highest {
                lowest = Some(lowest.map_or(entry.replicas, |l| l.min(entry.replicas)));
                highest = Some(highest.map_or(entry.replicas, |h| h.max(entry.replicas)));
                kept.push(entry);
            }
        }
        kept.reverse();
        while kept.len() > Self::CAPACITY {
            // The two oldest become one: the higher number for the longer time, which keeps capacity.
            let oldest = kept.remove(0);
            kept[0].replicas = kept[0].replicas.max(oldest.replicas);
        }
        self.recommendations = kept;
    }

    /// Replicas added less replicas removed within `period` before `now`.
    fn changed_within(&self, period: SignedDuration, now: Timestamp) -> i64 {
        let cutoff = back(now, period);
        self.scale_events
            .iter()
            .filter(|event| event.at > cutoff)
            .fold(0, |sum: i64, event| sum.saturating_add(event.change))
    }
}

/// The moment `duration` before `now`.
fn back(now: Timestamp, duration: SignedDuration) -> Timestamp {
    now.saturating_sub(duration.max(SignedDuration::ZERO)).unwrap_or(Timestamp::MIN)
}

/// What a limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// Recent recommendations were lower than a wish for more, or higher than a wish for less.
    Stabilized,
    /// A rate limit on scaling up.
    ScaleUpLimit,
    /// A rate limit on scaling down.
    ScaleDownLimit,
    /// The lower bound.
    TooFewReplicas,
    /// The upper bound.
    TooManyReplicas,
}

impl LimitKind {
    /// Its stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Stabilized => "Stabilized",
            Self::ScaleUpLimit => "ScaleUpLimit",
            Self::ScaleDownLimit => "ScaleDownLimit",
            Self::TooFewReplicas => "TooFewReplicas",
            Self::TooManyReplicas => "TooManyReplicas",
        }
    }
}

/// A limit that changed the number of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Which limit.
    pub kind: LimitKind,
    /// Replicas before it.
    pub from: Replicas,
    /// Replicas after it.
    pub to: Replicas,
}

impl Limit {
    /// It as a reason, with its numbers.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let (from, to) = (self.from, self.to);
        let message = match self.kind {
            LimitKind::Stabilized => {
                format!(
                    "{to} instead of {from} replicas: recent recommendations within the stabilisation window differ"
                )
            }
            LimitKind::ScaleUpLimit => {
                format!("{to} instead of {from} replicas: the scale-up policies allow no more yet")
            }
            LimitKind::ScaleDownLimit => {
                format!("{to} instead of {from} replicas: the scale-down policies allow no fewer yet")
            }
            LimitKind::TooFewReplicas => format!("{to} instead of {from} replicas: the lower bound"),
            LimitKind::TooManyReplicas => format!("{to} instead of {from} replicas: the upper bound"),
        };
        Reason { code: self.kind.code(), message: Cow::Owned(message) }
    }
}

/// The number of replicas nearest to `current` that no recommendation in the windows, nor `desired`, speaks against:
/// up to the lowest of the recent ones, down to the highest.
#[must_use]
pub fn stabilize(
    state: &BehaviorState,
    behavior: &HpaBehavior,
    now: Timestamp,
    current: Replicas,
    desired: Replicas,
) -> Replicas {
    let within = |window: SignedDuration| {
        let cutoff = back(now, window);
        state.recommendations.iter().filter(move |entry| entry.at > cutoff).map(|entry| entry.replicas)
    };
    let up = within(behavior.scale_up.stabilization_window).fold(desired, Replicas::min);
    let down = within(behavior.scale_down.stabilization_window).fold(desired, Replicas::max);
    current.max(up).min(down)
}

/// The fewest and the most replicas that the policies allow now. Neither crosses `current`.
#[must_use]
pub fn rate_limit(
    state: &BehaviorState,
    behavior: &HpaBehavior,
    now: Timestamp,
    current: Replicas,
) -> (Replicas, Replicas) {
    let start = |policy: &ScalingPolicy| i64::from(current.0) - state.changed_within(policy.period(), now);
    let lowest = behavior.scale_down.policies.iter().map(|policy| policy.lowest(start(policy)));
    let highest = behavior.scale_up.policies.iter().map(|policy| policy.highest(start(policy)));
    let lowest = match behavior.scale_down.select {
        SelectPolicy::Max => lowest.min().unwrap_or(0),
        SelectPolicy::Min => lowest.max().unwrap_or(0),
        SelectPolicy::Disabled => i64::from(current.0),
    };
    let highest = match behavior.scale_up.select {
        SelectPolicy::Max => highest.max().unwrap_or(i64::MAX),
        SelectPolicy::Min => highest.min().unwrap_or(i64::MAX),
        SelectPolicy::Disabled => i64::from(current.0),
    };
    (replicas(lowest).min(current), replicas(highest).max(current))
}

/// The nearest number of replicas.
fn replicas(number: i64) -> Replicas {
    Replicas(u32::try_from(number.max(0)).unwrap_or(u32::MAX))
}

/// Replicas after stabilisation, rate limits and bounds, with each limit that changed the number; `desired` is
/// remembered as it came.
///
/// A rate limit holds against the plan, never against the bounds: beyond them, replicas come back at once.
pub fn normalize(
    state: &mut BehaviorState,
    behavior: &HpaBehavior,
    now: Timestamp,
    current: Replicas,
    desired: Replicas,
    min: Replicas,
    max: Replicas,
) -> (Replicas, Vec<Limit>) {
    state.forget_events(behavior, now);
    if state.recommendations.is_empty() {
        // As the HPA does when it first sees an object: what runs now is a recommendation too.
        state.record_recommendation(behavior, now, current);
    }
    let mut limits = Vec::new();
    let stabilized = stabilize(state, behavior, now, current, desired);
    state.record_recommendation(behavior, now, desired);
    if stabilized != desired {
        limits.push(Limit { kind: LimitKind::Stabilized, from: desired, to: stabilized });
    }
    let (result, limit) = limited(state, behavior, now, current, stabilized, min, max);
    limits.extend(limit);
    (result, limits)
}

/// Rate limits and then bounds; reported is the stricter of the two, as the HPA does.
fn limited(
    state: &BehaviorState,
    behavior: &HpaBehavior,
    now: Timestamp,
    current: Replicas,
    desired: Replicas,
    min: Replicas,
    max: Replicas,
) -> (Replicas, Option<Limit>) {
    let (lowest, highest) = rate_limit(state, behavior, now, current);
    let to = desired.clamp(lowest, highest).min(max).max(min);
    let kind = match to.cmp(&desired) {
        Ordering::Equal => return (to, None),
        Ordering::Less if highest < max => LimitKind::ScaleUpLimit,
        Ordering::Less => LimitKind::TooManyReplicas,
        Ordering::Greater if lowest > min => LimitKind::ScaleDownLimit,
        Ordering::Greater => LimitKind::TooFewReplicas,
    };
    (to, Some(Limit { kind, from: desired, to }))
}

#[cfg(test)]
mod tests;
