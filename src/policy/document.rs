//! A YAML document in which every value knows its place, and its comparison with the resource's schema.
//!
//! The schema is the one that the API server enforces, so a file is refused for the same unknown fields, types and
//! missing fields, but with line, column and the nearest name.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{MessageFormatter, Spanned, UserMessageFormatter};

use super::error::{Place, Problem};
use super::text::{nearest, shown};

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    place: Place,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Null, a boolean, a number or a string.
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
struct Entry {
    key: String,
    place: Place,
    value: Node,
}

impl Node {
    /// Reads the only document in `text`. JSON is YAML too.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_depth: 64, max_nodes: 100_000 },
            with_snippet: false,
        };
        serde_saphyr::from_str_with_options::<Self>(text, options).map_err(|error| {
            let place = error.location().map(|at| Place { line: at.line(), column: at.column() });
            // Without its place, which the problem names by itself.
            let message = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
            Problem::new("", format!("cannot be read as YAML: {message}")).at(place)
        })
    }

    /// The same without places.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => items.iter().map(Self::value).collect(),
            Kind::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.value.value())).collect()
            }
        }
    }

    /// The value of field `key`; null is as good as absent.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Map(entries) => entries
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| &entry.value)
                .filter(|node| !node.is_null()),
            Kind::Scalar(_) | Kind::List(_) => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Scalar(Value::Null))
    }

    /// Its text, if it is a string.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The place of `field`, such as `spec.schedules[0].start`; that of the nearest thing around it if it is absent.
    pub(super) fn place(&self, field: &str) -> Place {
        let (mut node, mut place) = (self, self.place);
        for part in field.split(['.', '[']).filter(|part| !part.is_empty()) {
            let next = match &node.kind {
                Kind::Map(entries) => entries.iter().find(|entry| entry.key == part).map(|entry| {
                    let is_scalar = matches!(entry.value.kind, Kind::Scalar(_));
                    (&entry.value, if is_scalar { entry.value.place } else { entry.place })
                }),
                Kind::List(items) => part
                    .strip_suffix(']')
                    .and_then(|index| index.parse::<usize>().ok())
                    .and_then(|index| items.get(index))
                    .map(|item| (item, item.place)),
                Kind::Scalar(_) => None,
            };
            match next {
                Some(found) => (node, place) = found,
                None => break,
            }
        }
        place
    }

    /// What in it `schema` does not allow: unknown and missing fields, wrong types, unknown choices.
    pub(super) fn check(&self, schema: &JSONSchemaProps) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.check_at("", schema, &mut problems);
        problems
    }

    fn check_at(&self, field: &str, schema: &JSONSchemaProps, problems: &mut Vec<Problem>) {
        let wanted = schema.type_.as_deref().unwrap_or_default();
        if !self.is_a(wanted) {
            problems.push(Problem::new(field, self.wrong_type(wanted)).at(Some(self.place)));
            return;
        }
        if let Some(message) = self.wrong_size(schema) {
            problems.push(Problem::new(field, message).at(Some(self.place)));
        }
        match &self.kind {
            Kind::Scalar(value) => {
                problems.extend(unknown_choice(field, value, schema).map(|p| p.at(Some(self.place))));
            }
            Kind::List(items) => {
                let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items else { return };
                for (index, item) in items.iter().enumerate() {
                    item.check_at(&format!("{field}[{index}]"), schema, problems);
                }
            }
            Kind::Map(entries) => self.check_fields(field, entries, schema, problems),
        }
    }

    fn check_fields(
        &self,
        field: &str,
        entries: &[Entry],
        schema: &JSONSchemaProps,
        problems: &mut Vec<Problem>,
    ) {
        // An object without known fields takes any, such as labels and matchers.
        let Some(known) = &schema.properties else {
            if let Some(JSONSchemaPropsOrBool::Schema(schema)) = &schema.additional_properties {
                for entry in entries {
                    entry.value.check_at(&joined(field, &entry.key), schema, problems);
                }
            }
            return;
        };
        for entry in entries {
            match known.get(&entry.key) {
                Some(_) if entry.value.is_null() => {}
                Some(schema) => entry.value.check_at(&joined(field, &entry.key), schema, problems),
                None => problems.push(
                    Problem::new(joined(field, &shown(&entry.key)), unknown_field(&entry.key, known))
                        .at(Some(entry.place)),
                ),
            }
        }
        for required in schema.required.iter().flatten() {
            if self.get(required).is_none() {
                let field = joined(field, required);
                problems.push(Problem::new(field, "is missing; it is required").at(Some(self.place)));
            }
        }
    }

    /// Whether it is of `wanted`, a type of JSON Schema.
    fn is_a(&self, wanted: &str) -> bool {
        match (&self.kind, wanted) {
            (_, "") | (Kind::Map(_), "object") | (Kind::List(_), "array") => true,
            (Kind::Scalar(value), "string") => value.is_string(),
            (Kind::Scalar(value), "boolean") => value.is_boolean(),
            (Kind::Scalar(value), "number") => value.is_number(),
            (Kind::Scalar(value), "integer") => value.is_i64() || value.is_u64(),
            _ => false,
        }
    }

    /// Says that it is longer or shorter than `schema` allows.
    fn wrong_size(&self, schema: &JSONSchemaProps) -> Option<String> {
        let (size, least, most, what) = match &self.kind {
            Kind::Scalar(Value::String(text)) => {
                (text.chars().count(), schema.min_length, schema.max_length, "characters")
            }
            // Empty lists have messages of their own.
            Kind::List(items) => (items.len(), None, schema.max_items, "entries"),
            Kind::Map(entries) => (entries.len(), None, schema.max_properties, "entries"),
            Kind::Scalar(Value::Number(number)) if schema.format.as_deref() == Some("int32") => {
                let fits = number.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
                return (!fits).then(|| format!("{number} is far beyond what is allowed; correct it"));
            }
            Kind::Scalar(_) => return None,
        };
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        if let Some(most) = most.filter(|most| size > *most) {
            return Some(format!("has {size} {what}, over the {most} that are allowed; shorten it"));
        }
        least.filter(|least| size < *least).map(|_| "is empty; fill it in or remove it".to_owned())
    }

    /// Says that it is not of `wanted`.
    fn wrong_type(&self, wanted: &str) -> String {
        let found = match &self.kind {
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "an object".to_owned(),
            Kind::Scalar(Value::String(text)) => format!("the string `{}`", shown(text)),
            Kind::Scalar(Value::Null) => "nothing".to_owned(),
            Kind::Scalar(value) => format!("`{value}`"),
        };
        let (wanted, mend) = match wanted {
            "object" => ("an object", "write its fields below it, indented"),
            "array" => ("a list", "write [...], or lines that start with `- `"),
            "string" => ("a string", "put it in quotes, or add its unit, as in 10m or 80%"),
            "integer" => ("a whole number", "write digits only, without quotes or unit"),
            "number" => ("a number", "write digits only, without quotes or unit"),
            other => (other, "correct it"),
        };
        format!("must be {wanted}, not {found}; {mend}")
    }
}

/// `field.key`.
fn joined(field: &str, key: &str) -> String {
    if field.is_empty() { key.to_owned() } else { format!("{field}.{key}") }
}

/// Says that there is no field `key` among those `known`.
fn unknown_field(key: &str, known: &BTreeMap<String, JSONSchemaProps>) -> String {
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    let inside = |name: &&str| known.get(*name).is_some_and(|schema| has_field(schema, key));
    match (nearest(key, names.iter().copied()), names.iter().copied().find(inside)) {
        (Some(name), _) => format!("unknown field; did you mean `{name}`?"),
        (None, Some(home)) => format!("unknown field; it belongs into `{home}`"),
        (None, None) => format!("unknown field; known are {}", names.join(", ")),
    }
}

/// Whether objects of `schema` have a field `key`.
fn has_field(schema: &JSONSchemaProps, key: &str) -> bool {
    schema.properties.as_ref().is_some_and(|fields| fields.contains_key(key))
}

/// A scalar that is not among the choices of `schema`.
fn unknown_choice(field: &str, value: &Value, schema: &JSONSchemaProps) -> Option<Problem> {
    let choices: Vec<&str> = schema.enum_.iter().flatten().filter_map(|choice| choice.0.as_str()).collect();
    let text = value.as_str()?;
    if choices.is_empty() || choices.contains(&text) {
        return None;
    }
    let mend = match nearest(text, choices.iter().copied()) {
        Some(choice) => format!("did you mean `{choice}`?"),
        None => format!("write one of {}", choices.join(", ")),
    };
    Some(Problem::new(field, format!("`{}` is not known; {mend}", shown(text))))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        let at = spanned.referenced;
        Ok(Self { place: Place { line: at.line(), column: at.column() }, kind: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        // Infinite and NaN are no JSON numbers; as texts they are refused where a number is wanted.
        let number = serde_json::Number::from_f64(value).map(Value::Number);
        Ok(Kind::Scalar(number.unwrap_or_else(|| value.to_string().into())))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let place = Place { line: key.referenced.line(), column: key.referenced.column() };
            entries.push(Entry { key: key.value, place, value: map.next_value()? });
        }
        Ok(Kind::Map(entries))
    }
}
