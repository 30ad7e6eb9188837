//! What can be wrong with a policy, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A policy that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is too large for a policy.
    #[error("{}: over {limit} bytes, which is no policy; a Kubernetes resource is smaller", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// It cannot be used as it is; every problem is listed.
    #[error("{}", listed(path.as_ref(), problems))]
    Invalid {
        /// The file, if it came from one.
        path: Option<PathBuf>,
        /// What is wrong; at least one.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, as in `spec.schedules[0].start`; empty for the document as a whole.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// Where the field stands in the file, if it came from one.
    pub place: Option<Place>,
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
}

impl Problem {
    /// A problem with `field`.
    pub(super) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), place: None }
    }

    /// The same, at `place`.
    pub(super) fn at(mut self, place: Option<Place>) -> Self {
        self.place = place;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// One line a problem: `policy.yaml:7:16: spec.minReplicas: …`.
fn listed(path: Option<&PathBuf>, problems: &[Problem]) -> String {
    let file = path.map_or_else(|| "policy".to_owned(), |path| path.display().to_string());
    let line = |problem: &Problem| match problem.place {
        Some(Place { line, column }) => format!("{file}:{line}:{column}: {problem}"),
        None => format!("{file}: {problem}"),
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}
