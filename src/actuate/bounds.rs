//! Bounds of another autoscaler: what they are, what they were, and what they should be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::Replicas;

/// The annotation on an HPA or ScaledObject that keeps its original bounds while they are overridden.
pub const ORIGINAL_BOUNDS: &str = "milvus-autoscaler.io/original-bounds";

/// A lower and an upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The fewest replicas.
    pub min: Replicas,
    /// The most replicas.
    pub max: Replicas,
}

/// The bounds as the user had them; `None` where a field was unset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Original {
    /// The lower bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<u32>,
    /// The upper bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<u32>,
}

/// The bounds of one autoscaler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// As they are.
    pub live: Range,
    /// As the user had them.
    pub original: Original,
    /// Whether they are overridden already.
    pub overridden: bool,
    /// What the upper bound means where it is unset.
    pub default_max: Replicas,
    /// What the autoscaler with these bounds asks for now.
    pub running: Replicas,
}

impl Bounds {
    /// The bounds of an object with these `annotations` whose fields are `min` and `max`.
    pub(super) fn read(
        annotations: Option<&BTreeMap<String, String>>,
        min: Option<i64>,
        max: Option<i64>,
        default: Range,
        running: Replicas,
    ) -> Self {
        let number = |value: Option<i64>| value.map(|value| u32::try_from(value.max(0)).unwrap_or(u32::MAX));
        let (min, max) = (number(min), number(max));
        let kept = annotations.and_then(|annotations| annotations.get(ORIGINAL_BOUNDS));
        let kept = kept.and_then(|text| serde_json::from_str(text).ok());
        Self {
            live: Range { min: min.map_or(default.min, Replicas), max: max.map_or(default.max, Replicas) },
            overridden: kept.is_some(),
            original: kept.unwrap_or(Original { min_replicas: min, max_replicas: max }),
            default_max: default.max,
            running,
        }
    }

    /// The bounds that ask for `replicas`: the upper one is the user's own unless more are needed, and once raised it
    /// comes down no faster than what runs.
    #[must_use]
    pub fn wanted(&self, replicas: Replicas) -> Range {
        let own = self.original.max_replicas.map_or(self.default_max, Replicas);
        Range { min: replicas, max: own.max(replicas).max(self.running.min(self.live.max)) }
    }

    /// The original bounds as the annotation keeps them.
    pub(super) fn annotation(&self) -> String {
        serde_json::to_string(&self.original).unwrap_or_default()
    }
}
