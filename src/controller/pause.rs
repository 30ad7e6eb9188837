//! The annotation that pauses scaling.

use jiff::Timestamp;
use kube::ResourceExt;

use crate::decide::Reason;
use crate::policy::MilvusAutoscaler;

/// The annotation on a policy that pauses it, until the moment that it says.
pub const PAUSED_UNTIL: &str = "milvus-autoscaler.io/paused-until";

/// A pause in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Its end, if it says one.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: Reason,
}

/// The pause that is in force at `now`. Whoever writes something else than a moment wants a pause too: it lasts until
/// the annotation goes.
#[must_use]
pub fn pause(resource: &MilvusAutoscaler, now: Timestamp) -> Option<Pause> {
    let text = resource.annotations().get(PAUSED_UNTIL)?;
    match text.trim().parse::<Timestamp>() {
        Ok(until) if until <= now => None,
        Ok(until) => {
            let message = format!("Paused until {until} by the annotation {PAUSED_UNTIL}.");
            Some(Pause { until: Some(until), reason: Reason::new("PausedByAnnotation", message) })
        }
        Err(_) => {
            let message = format!(
                "Paused until the annotation {PAUSED_UNTIL} is removed: its value is no moment such as \
                 2026-11-23T18:00:00Z."
            );
            Some(Pause { until: None, reason: Reason::new("PausedWithoutEnd", message) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ClusterPolicy;

    fn annotated(value: &str) -> MilvusAutoscaler {
        let resource = serde_json::json!({
            "apiVersion": crate::policy::API_VERSION, "kind": crate::policy::KIND,
            "metadata": {"name": "one", "annotations": {PAUSED_UNTIL: value}},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "querynode"}, "minReplicas": 1,
                "maxReplicas": 2, "prometheus": {"url": "http://prometheus"}},
        });
        let resource: MilvusAutoscaler = serde_json::from_value(resource).unwrap();
        ClusterPolicy::from_resource(&resource).unwrap();
        resource
    }

    #[test]
    fn a_pause_ends_when_it_says_and_never_by_a_slip_of_the_pen() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let until = |value: &str| pause(&annotated(value), now).map(|pause| pause.until);
        assert_eq!(until("2026-11-23T12:00:00Z"), None);
        assert_eq!(until("2026-11-23T14:00:00+01:00"), Some("2026-11-23T13:00:00Z".parse().ok()));
        assert_eq!(until("tomorrow"), Some(None));
        assert_eq!(until(""), Some(None));
        let mut free = annotated("x");
        free.metadata.annotations = None;
        assert_eq!(pause(&free, now), None);
    }
}
