//! The texts that a policy is written in (`10m`, `0.1%`, `Asia/Shanghai`), as they stand in the resource.
//!
//! Each type keeps the text, so that any stored object can be read, and has one `parse` that gives the value or a
//! sentence that says what is wrong and how to write it.

use std::borrow::Cow;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::units::Ratio;

/// CEL rules for `x-kubernetes-validations`, from pairs of rule and message.
pub(super) fn rules(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(rule, message)| json!({"rule": rule, "message": message})).collect()
}

/// Defines a text of the resource: a string with its longest length, its CEL rules and its description.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, max $max:literal, [$($rule:expr => $message:expr),* $(,)?]) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The text as it was written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "maxLength": $max,
                    "x-kubernetes-validations": rules(&[$(($rule, $message)),*]),
                })
            }
        }
    };
}

text! {
    /// A duration such as `100ms`, `90s`, `10m`, `1h30m` or `28d`; a day is 24 hours, a week 7 days.
    DurationText, max 32, [
        "self.matches('^([0-9]+(ms|s|m|h|d|w))+$')"
            => "must be a duration: numbers with a unit each (ms, s, m, h, d, w), such as 90s, 10m, 1h30m or 28d",
        "self.matches('[1-9]')" => "must be above 0",
    ]
}

text! {
    /// A percentage such as `0.1%` or `80%`.
    PercentText, max 16, [
        "self.matches('^[0-9]+([.][0-9]+)?%$')" => "must be a percentage such as 0.1% or 80%",
    ]
}

text! {
    /// A day, `2026-10-01`, or several in a row, `2026-10-01/2026-10-07`, the last one included.
    DaysText, max 21, [
        "self.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}(/[0-9]{4}-[0-9]{2}-[0-9]{2})?$')"
            => "must be a day such as 2026-10-01, or first and last day such as 2026-10-01/2026-10-07",
    ]
}

text! {
    /// A moment: with an offset, `2026-11-11T00:00:00+08:00`, or in the policy's time zone, `2026-11-11T00:00`.
    MomentText, max 40, [
        "self.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}')"
            => "must be a moment such as 2026-11-11T00:00:00+08:00, or 2026-11-11T00:00 in the policy's time zone",
    ]
}

text! {
    /// An IANA time zone such as `Asia/Shanghai`.
    TimeZoneText, max 64, [
        "self.matches('^[A-Za-z][A-Za-z0-9_+/-]*$')" => "must be an IANA time zone such as Asia/Shanghai or UTC",
    ]
}

text! {
    /// A cron expression of five fields: minute, hour, day of month, month, day of week.
    CronText, max 128, [
        "self.startsWith('@') || self.matches('^[[:space:]]*[^[:space:]]+([[:space:]]+[^[:space:]]+){4}[[:space:]]*$')"
            => "must be a cron expression of five fields (minute, hour, day of month, month, day of week), such as '0 8 * * MON-FRI'",
    ]
}

text! {
    /// The name of a Kubernetes object.
    NameText, max 253, [
        "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')"
            => "must be the name of a Kubernetes object: lower-case letters, digits, - and .",
    ]
}

text! {
    /// A key of a Secret.
    KeyText, max 253, [
        "self.matches('^[-._a-zA-Z0-9]+$')" => "must be a key of a Secret: letters, digits, -, _ and .",
    ]
}

/// A CEL rule for a [`PercentText`] from `low` to `high` percent.
pub(super) fn percent_range(low: &str, high: &str) -> Value {
    let number = "double(self.replace('%', ''))";
    // A text that is no percentage has its own rule.
    let rule = format!(
        "!self.matches('^[0-9]+([.][0-9]+)?%$') || {number} >= double('{low}') && {number} <= double('{high}')"
    );
    let mut all = PercentText::json_schema(&mut SchemaGenerator::default())
        .remove("x-kubernetes-validations")
        .unwrap_or_default();
    if let Some(all) = all.as_array_mut() {
        all.push(json!({"rule": rule, "message": format!("must be from {low}% to {high}%")}));
    }
    all
}

impl DurationText {
    /// # Errors
    /// If it is no duration, or one too long for arithmetic.
    pub fn parse(&self) -> Result<SignedDuration, String> {
        parse_duration(&self.0).ok_or_else(|| {
            format!(
                "`{}` is not a duration; write numbers with a unit each (ms, s, m, h, d, w), such as 90s, 10m, \
                 1h30m or 28d",
                shown(&self.0)
            )
        })
    }
}

/// Adds up `<number><unit>` parts; `None` if there is none, a part is malformed, or the sum overflows.
fn parse_duration(text: &str) -> Option<SignedDuration> {
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut total = SignedDuration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let millis = match &rest[digits..digits + unit] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        total = total.checked_add(SignedDuration::from_millis(number.checked_mul(millis)?))?;
        rest = &rest[digits + unit..];
    }
    // A century: far beyond any use, far within what timestamps can bear.
    (total <= SignedDuration::from_hours(24 * 36_525)).then_some(total)
}

/// A duration as this project writes it: `1h30m`, `100ms`, `28d`.
#[must_use]
pub fn duration_text(duration: SignedDuration) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut millis = duration.as_millis().max(0);
    let parts = units.map(|(unit, length)| {
        let count = millis / length;
        millis %= length;
        if count > 0 { format!("{count}{unit}") } else { String::new() }
    });
    let text = parts.concat();
    if text.is_empty() { "0s".to_owned() } else { text }
}

impl NameText {
    /// # Errors
    /// If no Kubernetes object can have this name.
    pub fn parse(&self) -> Result<String, String> {
        let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        let is_edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = self.0.as_bytes();
        let edges = is_edge(bytes.first()) && is_edge(bytes.last());
        if edges && bytes.len() <= 253 && bytes.iter().all(|b| is_inner(*b)) {
            return Ok(self.0.clone());
        }
        let name = shown(&self.0);
        Err(format!("`{name}` is no name of a Kubernetes object; use lower-case letters, digits, - and ."))
    }
}

impl KeyText {
    /// # Errors
    /// If no Secret can have this key.
    pub fn parse(&self) -> Result<String, String> {
        let is_key = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !self.0.is_empty() && self.0.len() <= 253 && self.0.bytes().all(is_key) {
            return Ok(self.0.clone());
        }
        Err(format!("`{}` is no key of a Secret; use letters, digits, -, _ and .", shown(&self.0)))
    }
}

impl PercentText {
    /// # Errors
    /// If it is no percentage.
    pub fn parse(&self) -> Result<Ratio, String> {
        self.0
            .strip_suffix('%')
            .filter(|number| {
                // As the rule of the resource has it: `1e1`, `.5` and `+5` are numbers in Rust, but not here.
                let mut parts = number.split('.');
                parts.clone().count() <= 2
                    && parts.all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
            })
            .and_then(|number| number.parse::<f64>().ok())
            .and_then(|percent| Ratio::new(percent / 100.0).ok())
            .ok_or_else(|| {
                format!("`{}` is not a percentage from 0% to 100%; write it like 0.1% or 80%", shown(&self.0))
            })
    }
}

impl DaysText {
    /// The most days that one entry may span.
    const LONGEST: i32 = 366;

    /// The first and the last day.
    ///
    /// # Errors
    /// If it is neither a day nor a range of days.
    pub fn parse(&self) -> Result<(Date, Date), String> {
        let (first, last) = self.0.split_once('/').unwrap_or((&self.0, &self.0));
        let day = |text: &str| {
            text.parse::<Date>().ok().filter(|_| text.len() == 10).ok_or_else(|| {
                format!(
                    "`{}` is not a day; write it like 2026-10-01, several like 2026-10-01/2026-10-07",
                    shown(text)
                )
            })
        };
        let (first, last) = (day(first)?, day(last)?);
        match (last - first).get_days() {
            days if days < 0 => Err(format!("{last} is before {first}; write the first day first")),
            days if days >= Self::LONGEST => Err(format!("{first} to {last} is over a year; split it")),
            _ => Ok((first, last)),
        }
    }
}

impl MomentText {
    /// The moment; without an offset it is a local time in `zone`.
    ///
    /// # Errors
    /// If it is no moment.
    pub fn parse(&self, zone: &TimeZone) -> Result<Timestamp, String> {
        // Further forms that could be read would be refused by the rule of the resource, or hold a second zone.
        let is_date_and_time =
            matches!(self.0.get(10..11), Some("T" | "t" | " ")) && self.0.get(13..14) == Some(":");
        let text = Some(&self.0).filter(|text| is_date_and_time && !text.contains('['));
        let instant = || text?.parse::<Timestamp>().ok();
        let local = || zone.to_timestamp(text?.parse::<DateTime>().ok()?).ok();
        instant().or_else(local).ok_or_else(|| {
            format!(
                "`{}` is not a moment; write it like 2026-11-11T00:00:00+08:00, or 2026-11-11T00:00 for local time",
                shown(&self.0)
            )
        })
    }
}

impl TimeZoneText {
    /// # Errors
    /// If there is no such time zone; the nearest name is suggested.
    pub fn parse(&self) -> Result<TimeZone, String> {
        TimeZone::get(&self.0).map_err(|_| {
            let names: Vec<String> =
                jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
            let mend = match nearest_zone(&self.0, &names) {
                Some(name) => format!("did you mean {name}?"),
                None => "write an IANA name such as Asia/Shanghai or UTC".to_owned(),
            };
            format!("`{}` is not a known time zone; {mend}", shown(&self.0))
        })
    }
}

/// The zone that `text` may stand for: by its whole name, or by its last part (`Shanghai`).
fn nearest_zone<'a>(text: &str, names: &'a [String]) -> Option<&'a str> {
    let wanted = text.to_lowercase().replace(' ', "_");
    let distance = |name: &str| {
        let name = name.to_lowercase();
        let city = name.rsplit('/').next().unwrap_or_default();
        strsim::damerau_levenshtein(&wanted, &name).min(strsim::damerau_levenshtein(&wanted, city))
    };
    let allowed = wanted.chars().count() / 4;
    names
        .iter()
        .map(|name| (distance(name), name.as_str()))
        .filter(|(d, _)| *d <= allowed.max(1))
        .min()
        .map(|(_, name)| name)
}

/// The candidate nearest to `text`, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = text.to_lowercase();
    candidates
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wanted, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= (name.len().max(text.len()) / 3).max(1))
        .min()
        .map(|(_, name)| name)
}

/// A user's text as an error may show it: shortened, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut clean: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duration(text: &str) -> Result<SignedDuration, String> {
        DurationText::from(text).parse()
    }

    #[test]
    fn durations_add_up() {
        assert_eq!(duration("100ms"), Ok(SignedDuration::from_millis(100)));
        assert_eq!(duration("1h30m"), Ok(SignedDuration::from_mins(90)));
        assert_eq!(duration("28d"), Ok(SignedDuration::from_hours(28 * 24)));
        assert_eq!(duration("2w"), duration("14d"));
        assert_eq!(duration("0s"), Ok(SignedDuration::ZERO));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for bad in [
            "",
            "10",
            "m",
            "-5m",
            "1.5h",
            "10 m",
            "10m ",
            "5M",
            "10mm",
            "99999999999999999999d",
            "9999999d",
            "５m",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["1h30m", "100ms", "28d", "0s", "1d2h3m4s5ms"] {
            assert_eq!(duration_text(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn percentages_are_fractions_of_one() {
        assert_eq!(PercentText::from("80%").parse(), Ok(Ratio::clamped(0.8)));
        assert_eq!(PercentText::from("0.1%").parse(), Ok(Ratio::clamped(0.001)));
        for bad in ["", "%", "80", "-1%", "101%", "nan%", "1e1%", "80 %", "..%", ".5%", "5.%", "1.2.3%"] {
            assert!(PercentText::from(bad).parse().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_range_of_days_is_ordered_and_short() {
        assert!(DaysText::from("2026-10-01/2026-10-07").parse().is_ok());
        for bad in
            ["2026-13-01", "2026-10-07/2026-10-01", "2026-10-01/2028-10-01", "2026-10-01T00:00", "", "/"]
        {
            assert!(DaysText::from(bad).parse().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_without_offset_is_local() {
        let shanghai = TimeZone::get("Asia/Shanghai").unwrap();
        let with_offset = MomentText::from("2026-11-11T00:00:00+08:00").parse(&shanghai);
        assert!(with_offset.is_ok());
        assert_eq!(MomentText::from("2026-11-11T00:00").parse(&shanghai), with_offset);
        for bad in ["tomorrow", "2026-11-11", "2026-11-11T00:00[Europe/Berlin]", "2026-11-11T24:30", ""] {
            assert!(MomentText::from(bad).parse(&shanghai).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_zone_gets_the_nearest_name() {
        assert!(
            TimeZoneText::from("Asia/Shangai").parse().unwrap_err().contains("did you mean Asia/Shanghai?")
        );
        assert!(TimeZoneText::from("Shanghai").parse().unwrap_err().contains("did you mean Asia/Shanghai?"));
        assert!(TimeZoneText::from("Mars/Olympus Mons").parse().unwrap_err().contains("write an IANA name"));
    }
}
