//! The policy: what a user asks of the autoscaler, as the Kubernetes resource `MilvusAutoscaler` that every command
//! uses as it is.
//!
//! [`MilvusAutoscaler`] holds what was written, [`Policy`] what it means: every text parsed, every default filled in,
//! every bound checked. A [`Policy`] is all that forecasting, deciding and simulating need; a [`ClusterPolicy`] adds
//! where to read and what to scale.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

pub use crd::{crd, crd_yaml};
pub use error::{Place, PolicyError, Problem};
pub use resource::{DemandUnit, MOST_REPLICAS, MilvusAutoscaler, MilvusAutoscalerSpec, Mode, TargetKind};

use self::read::{Use, contents, invalid, parsed};
use crate::calendar::{Calendar, ScheduleBounds, Schedules};
use crate::capacity::Capacity;
use crate::decide::behavior::HpaBehavior;
use crate::decide::{Costs, Floor, Rules};
use crate::units::{Qps, Ratio, Replicas};

mod crd;
mod document;
mod error;
mod read;
pub mod resource;
pub mod status;
pub mod text;
mod validate;

pub use validate::address;

/// The resource's `apiVersion`.
pub const API_VERSION: &str = "milvus-autoscaler.io/v1alpha1";

/// The resource's `kind`.
pub const KIND: &str = "MilvusAutoscaler";

/// What forecasting, deciding and simulating need of a policy: parsed, checked, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The resource's name; empty if a file gives none.
    pub name: String,
    /// The resource's namespace, if it says one.
    pub namespace: Option<String>,
    /// Whether the autoscaler acts.
    pub mode: Mode,
    /// The fewest replicas, at least 1.
    pub min_replicas: Replicas,
    /// The most replicas, not below `min_replicas`.
    pub max_replicas: Replicas,
    /// What is counted as demand.
    pub demand: Demand,
    /// What QueryNodes carry, if the user says so; otherwise it is learned.
    pub capacity: Option<GivenCapacity>,
    /// How busy the busiest QueryNode may be while capacity is learned.
    pub target_utilization: Ratio,
    /// What users of Milvus may expect.
    pub slo: Slo,
    /// How long a replica takes until it serves, if the user says so; otherwise it is learned.
    pub lead_time: Option<SignedDuration>,
    /// How much history the forecast rests on.
    pub history: SignedDuration,
    /// Time zone, holidays and events.
    pub calendar: Calendar,
    /// Times with other bounds.
    pub schedules: Schedules,
    /// How fast replicas may change.
    pub behavior: HpaBehavior,
    /// How full the memory of QueryNodes may be after a scale-in.
    pub memory_utilization: Ratio,
}

/// What is counted as demand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    /// The unit of demand and capacity.
    pub unit: DemandUnit,
    /// PromQL of the user's own.
    pub query: Option<String>,
}

/// What QueryNodes carry, as the user says.
#[derive(Debug, Clone, PartialEq)]
pub enum GivenCapacity {
    /// Each replica adds this, above 0.
    PerReplica(Qps),
    /// Measured points by replicas, never decreasing; at least one.
    Curve(Vec<(Replicas, Qps)>),
}

/// What users of Milvus may expect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slo {
    /// The latency that 99 % of searches must not exceed.
    pub p99_latency: Option<SignedDuration>,
    /// The share of time in which demand may exceed capacity, above 0.
    pub violation_budget: Ratio,
}

/// What a policy and its active schedules ask for at one moment.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The rules to decide by. A scheduled minimum is a floor beside them, so that decisions name it, and plans look
    /// beyond its end.
    pub rules: Rules,
    /// What the active schedules ask for at least.
    pub floor: Option<Floor>,
    /// The fewest replicas, by policy and active schedules.
    pub min: Replicas,
    /// Names of the active schedules.
    pub active: Vec<String>,
}

/// A policy with where to read and what to scale.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterPolicy {
    /// What to decide.
    pub policy: Policy,
    /// What to scale.
    pub target: Target,
    /// The HPA whose bounds are set, if the user names it.
    pub hpa: Option<String>,
    /// Where load, latency and state are read.
    pub prometheus: Prometheus,
}

/// What to scale, in the policy's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its kind.
    pub kind: TargetKind,
    /// Its name.
    pub name: String,
    /// The group of QueryNodes to scale, for a Milvus with groups.
    pub query_node_group: Option<String>,
}

/// Where load, latency and state are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prometheus {
    /// Address of the server, without a slash at its end.
    pub url: String,
    /// Labels that select the series of this Milvus; `None`: the policy's namespace.
    pub matchers: Option<BTreeMap<String, String>>,
    /// The Secret with the certificates of the server's authority.
    pub ca: Option<SecretKey>,
    /// How to log in.
    pub auth: Option<Auth>,
    /// Further headers.
    pub headers: Vec<(String, HeaderValue)>,
    /// How long one query may take.
    pub timeout: SignedDuration,
    /// The window of `rate()`.
    pub rate_window: SignedDuration,
    /// How old the newest sample may be.
    pub stale_after: SignedDuration,
}

/// A key of a Secret in the policy's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKey {
    /// Name of the Secret.
    pub secret: String,
    /// Key in it.
    pub key: String,
}

/// How to log in at Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// With a bearer token.
    Bearer(SecretKey),
    /// With user name and password.
    Basic {
        /// The user name.
        username: SecretKey,
        /// The password.
        password: SecretKey,
    },
}

/// The value of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderValue {
    /// As the policy says.
    Literal(String),
    /// From a Secret.
    Secret(SecretKey),
}

impl Policy {
    /// A policy with these bounds, and the default of everything else.
    #[must_use]
    pub fn with_bounds(min_replicas: Replicas, max_replicas: Replicas) -> Self {
        Self {
            name: String::new(),
            namespace: None,
            mode: Mode::Active,
            min_replicas,
            max_replicas: max_replicas.max(min_replicas),
            demand: Demand::default(),
            capacity: None,
            target_utilization: Ratio::clamped(0.7),
            slo: Slo { p99_latency: None, violation_budget: Ratio::clamped(0.001) },
            lead_time: None,
            history: SignedDuration::from_hours(28 * 24),
            calendar: Calendar::default(),
            schedules: Schedules::default(),
            behavior: HpaBehavior::default(),
            memory_utilization: Ratio::clamped(0.8),
        }
    }

    /// What holds at `now` for replicas of `capacity`: the same for the controller and for simulations.
    #[must_use]
    pub fn terms(&self, capacity: Capacity, now: Timestamp) -> Terms {
        let scheduled = self.schedules.bounds(now);
        let (min, max) = self.bounds(&scheduled);
        let rules = Rules {
            capacity,
            min: self.min_replicas,
            max,
            costs: Costs::for_budget(self.slo.violation_budget.get()),
            behavior: self.behavior.clone(),
        };
        Terms { rules, floor: scheduled.floor(), min, active: scheduled.active }
    }

    /// The bounds in force while schedules ask for `scheduled`. The policy's own bounds hold in any case, and a
    /// minimum outranks a maximum.
    #[must_use]
    pub fn bounds(&self, scheduled: &ScheduleBounds) -> (Replicas, Replicas) {
        let min = scheduled.min.unwrap_or_default().max(self.min_replicas).min(self.max_replicas);
        let max = scheduled.max.unwrap_or(self.max_replicas).min(self.max_replicas);
        (min, max.max(min))
    }

    /// The largest file that is read as a policy.
    pub const LARGEST_FILE: u64 = 1 << 20;

    /// The lead time to plan with until one has been learned.
    pub const ASSUMED_LEAD_TIME: SignedDuration = SignedDuration::from_mins(10);

    /// Reads a policy to decide by, from a YAML or JSON file with the whole resource. `scaleTargetRef` and
    /// `prometheus` may be absent, as nothing is read or scaled.
    ///
    /// # Errors
    /// If the file cannot be read or the policy cannot be used; every problem is listed with its place.
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        parsed(&contents(path)?, Use::Offline)
            .map(|parsed| parsed.policy)
            .map_err(|problems| invalid(path, problems))
    }

    /// Reads a policy to decide by, from YAML or JSON text.
    ///
    /// # Errors
    /// If the policy cannot be used; every problem is listed with its place.
    pub fn from_yaml(text: &str) -> Result<Self, PolicyError> {
        parsed(text.as_bytes(), Use::Offline)
            .map(|parsed| parsed.policy)
            .map_err(|problems| PolicyError::Invalid { path: None, problems })
    }
}

impl ClusterPolicy {
    /// Reads a policy from a YAML or JSON file with the whole resource.
    ///
    /// # Errors
    /// If the file cannot be read or the policy cannot be used; every problem is listed with its place.
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        parsed(&contents(path)?, Use::Cluster).map_err(|problems| invalid(path, problems))
    }

    /// Reads a policy from a file as [`ClusterPolicy::read`] does, and the resource as it was written.
    ///
    /// # Errors
    /// If the file cannot be read or the policy cannot be used; every problem is listed with its place.
    pub fn read_with_resource(path: &Path) -> Result<(MilvusAutoscaler, Self), PolicyError> {
        read::read(&contents(path)?, Use::Cluster).map_err(|problems| invalid(path, problems))
    }

    /// Reads a policy from YAML or JSON text.
    ///
    /// # Errors
    /// If the policy cannot be used; every problem is listed with its place.
    pub fn from_yaml(text: &str) -> Result<Self, PolicyError> {
        parsed(text.as_bytes(), Use::Cluster)
            .map_err(|problems| PolicyError::Invalid { path: None, problems })
    }

    /// What a resource from the API server means.
    ///
    /// # Errors
    /// If it cannot be used; every problem is listed.
    pub fn from_resource(resource: &MilvusAutoscaler) -> Result<Self, PolicyError> {
        validate::validate(resource).map_err(|problems| PolicyError::Invalid { path: None, problems })
    }
}

impl TryFrom<&MilvusAutoscaler> for ClusterPolicy {
    type Error = PolicyError;

    fn try_from(resource: &MilvusAutoscaler) -> Result<Self, PolicyError> {
        Self::from_resource(resource)
    }
}
