//! Policies that the API server and the binary must agree on.

use serde_json::Value;

/// A policy, and a part of the message that the API server refuses it with; `None` if it is accepted.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) policy: Value,
    pub(crate) refused: Option<String>,
}

/// The policy with everything in it, in the namespace `default`.
pub(crate) fn full() -> Value {
    let mut policy: Value = serde_saphyr::from_str(include_str!("../data/policy/full.yaml")).unwrap();
    policy["metadata"]["namespace"] = "default".into();
    policy
}

/// Every case of `specs.yaml`.
pub(crate) fn cases() -> Vec<Case> {
    let changes: Vec<Value> = serde_saphyr::from_str(include_str!("../data/policy/specs.yaml")).unwrap();
    let case = |change: Value| {
        let mut policy = full();
        merge(&mut policy["spec"], &change["spec"]);
        Case { policy, refused: change["refused"].as_str().map(str::to_owned) }
    };
    changes.into_iter().map(case).collect()
}

/// Replaces in `target` what `patch` says, as a JSON merge patch.
fn merge(target: &mut Value, patch: &Value) {
    let (Some(fields), Some(changes)) = (target.as_object_mut(), patch.as_object()) else {
        *target = patch.clone();
        return;
    };
    for (key, change) in changes {
        if change.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key).or_insert(Value::Null), change);
        }
    }
}
