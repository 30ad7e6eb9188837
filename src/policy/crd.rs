//! The CustomResourceDefinition.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt;
use serde_json::Value;

use super::MilvusAutoscaler;

static CRD: LazyLock<CustomResourceDefinition> = LazyLock::new(|| {
    let mut crd = MilvusAutoscaler::crd();
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            tidy(schema);
        }
    }
    crd
});

static SCHEMA: LazyLock<JSONSchemaProps> = LazyLock::new(|| {
    let version = CRD.spec.versions.first();
    let schema = version.and_then(|version| version.schema.as_ref()?.open_api_v3_schema.clone());
    let mut schema = schema.unwrap_or_default();
    let fields = schema.properties.get_or_insert_default();
    let of_type = |name: &str| JSONSchemaProps { type_: Some(name.to_owned()), ..JSONSchemaProps::default() };
    fields.insert("apiVersion".to_owned(), of_type("string"));
    fields.insert("kind".to_owned(), of_type("string"));
    fields.insert("metadata".to_owned(), of_type("object"));
    // A file's status is not read, so it may be of any version.
    fields.insert("status".to_owned(), JSONSchemaProps::default());
    schema
});

/// The definition of `MilvusAutoscaler` for the API server.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    CRD.clone()
}

/// The definition as YAML, the same bytes every time.
#[must_use]
pub fn crd_yaml() -> String {
    // By way of a JSON value, whose keys are in order.
    let mut value = serde_json::to_value(&*CRD).unwrap_or(Value::Null);
    write_whole_numbers(&mut value);
    serde_saphyr::to_string(&value).unwrap_or_default()
}

/// Turns `20.0` into `20`, as the API server gives it back.
fn write_whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(write_whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(write_whole_numbers),
        Value::Number(number) => {
            #[expect(clippy::cast_possible_truncation, reason = "only whole numbers that fit are taken")]
            if let Some(whole) = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e15) {
                *value = Value::from(whole as i64);
            }
        }
        _ => {}
    }
}

/// The schema that files are checked against: the one of the definition, with the fields that every resource has.
pub(super) fn schema() -> &'static JSONSchemaProps {
    &SCHEMA
}

/// Takes out what the API server does not know or what would let nulls through.
fn tidy(schema: &mut JSONSchemaProps) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    };
    // Without `nullable` the API server drops nulls, so that a rule never meets one.
    schema.nullable = None;
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    schema.properties.iter_mut().flatten().for_each(|(_, schema)| tidy(schema));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tidy(values);
    }
}
