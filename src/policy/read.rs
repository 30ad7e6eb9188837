//! Reads a policy from a file: size, text, YAML, schema, meaning; what is wrong is told with its place.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::{Value, json};

use super::document::Node;
use super::error::{Place, PolicyError, Problem};
use super::text::shown;
use super::{API_VERSION, ClusterPolicy, KIND, MilvusAutoscaler, Policy, crd, validate};

/// What a policy file is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// To read from Prometheus and scale.
    Cluster,
    /// To simulate.
    Offline,
}

/// The fields that only a [`Use::Cluster`] needs, each with what stands for it otherwise; it is never looked at.
fn cluster_fields() -> [(&'static str, Value); 2] {
    [
        ("scaleTargetRef", json!({"kind": "Deployment", "name": "absent"})),
        ("prometheus", json!({"url": "http://absent"})),
    ]
}

/// The contents of a policy file.
pub(super) fn contents(path: &Path) -> Result<Vec<u8>, PolicyError> {
    let mut contents = Vec::new();
    File::open(path)
        .and_then(|file| file.take(Policy::LARGEST_FILE + 1).read_to_end(&mut contents))
        .map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
    if contents.len() as u64 > Policy::LARGEST_FILE {
        return Err(PolicyError::TooLarge { path: path.to_owned(), limit: Policy::LARGEST_FILE });
    }
    Ok(contents)
}

/// The error for a file's problems.
pub(super) fn invalid(path: &Path, problems: Vec<Problem>) -> PolicyError {
    PolicyError::Invalid { path: Some(path.to_owned()), problems }
}

/// The policy in a document.
pub(super) fn parsed(contents: &[u8], purpose: Use) -> Result<ClusterPolicy, Vec<Problem>> {
    read(contents, purpose).map(|(_, policy)| policy)
}

/// The resource in a document, and what it means.
pub(super) fn read(contents: &[u8], purpose: Use) -> Result<(MilvusAutoscaler, ClusterPolicy), Vec<Problem>> {
    let text = std::str::from_utf8(contents).map_err(|error| {
        let line = contents[..error.valid_up_to()].split(|byte| *byte == b'\n').count() as u64;
        vec![
            Problem::new("", "not a text file in UTF-8; write the policy as YAML")
                .at(Some(Place { line, column: 1 })),
        ]
    })?;
    let document = Node::parse(text).map_err(|problem| vec![problem])?;
    let read = resource_in(&document, purpose).and_then(|resource| {
        let policy = validate::validate(&resource)?;
        Ok((resource, policy))
    });
    read.map_err(|mut problems| {
        for problem in &mut problems {
            problem.place.get_or_insert_with(|| document.place(&problem.field));
        }
        problems.sort_by_key(|problem| problem.place);
        problems
    })
}

/// The resource in a document, if it fits the schema.
fn resource_in(document: &Node, purpose: Use) -> Result<MilvusAutoscaler, Vec<Problem>> {
    check_type(document)?;
    let mut problems = document.check(crd::schema());
    let absent: Vec<(&str, Value)> = cluster_fields()
        .into_iter()
        .filter(|(field, _)| {
            purpose == Use::Offline && document.get("spec").is_some_and(|spec| spec.get(field).is_none())
        })
        .collect();
    problems.retain(|problem| !absent.iter().any(|(field, _)| problem.field == format!("spec.{field}")));
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut value = document.value();
    // What a file says of a status is of no interest.
    value.as_object_mut().map(|object| object.remove("status"));
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        spec.extend(absent.into_iter().map(|(field, value)| (field.to_owned(), value)));
        spec.retain(|_, value| !value.is_null());
    }
    if value["metadata"].is_null() {
        value["metadata"] = json!({});
    }
    let problem = |field: &str, error: serde_json::Error| vec![Problem::new(field, error.to_string())];
    ObjectMeta::deserialize(&value["metadata"]).map_err(|error| problem("metadata", error))?;
    serde_json::from_value(value).map_err(|error| problem("spec", error))
}

/// Checks `apiVersion` and `kind`.
fn check_type(document: &Node) -> Result<(), Vec<Problem>> {
    let problem = |field: &str, wanted: &str| {
        let found = document.get(field).and_then(Node::text);
        (found != Some(wanted)).then(|| {
            let found = found.map_or_else(|| "is missing".to_owned(), |text| format!("is `{}`", shown(text)));
            Problem::new(field, format!("{found}; write `{field}: {wanted}`"))
        })
    };
    let problems: Vec<Problem> =
        [problem("apiVersion", API_VERSION), problem("kind", KIND)].into_iter().flatten().collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}
