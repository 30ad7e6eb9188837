//! Values of options.

use clap::ValueEnum;
use jiff::SignedDuration;

use crate::policy::text::DurationText;
use crate::series::Step;

/// For whom a command prints: people or programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}

/// A duration such as `28d` or `1h30m`; 0 needs no unit.
pub(super) fn duration(text: &str) -> Result<SignedDuration, String> {
    if text == "0" { Ok(SignedDuration::ZERO) } else { DurationText::from(text).parse() }
}

/// The step of a trace.
pub(super) fn step(text: &str) -> Result<Step, String> {
    let length = duration(text)?;
    let whole = length.subsec_nanos() == 0;
    let seconds = u32::try_from(length.as_secs()).ok().filter(|s| whole && (1..=3600).contains(s));
    seconds.and_then(Step::from_seconds).ok_or_else(|| "a step is 1s to 1h long, in whole seconds".to_owned())
}

/// How far back a load is read.
pub(super) fn range(text: &str) -> Result<SignedDuration, String> {
    const LONGEST: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
    let range = duration(text)?;
    if range <= LONGEST { Ok(range) } else { Err("a trace is 10 years long at most".to_owned()) }
}

/// A number of replicas that a policy could ask for.
pub(super) fn replicas() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(crate::policy::MOST_REPLICAS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zero_needs_no_unit() {
        assert_eq!(duration("0"), Ok(SignedDuration::ZERO));
        assert!(duration("5").is_err());
        assert!(step("0").is_err());
    }
}
