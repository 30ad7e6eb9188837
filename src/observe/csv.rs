//! Reads and writes a recorded load as CSV: `timestamp,qps`, with optional `p99_ms` and `nq_per_second`.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use jiff::Timestamp;

use super::{Fault, Row, Trace, TraceBuilder};
use crate::policy::text::{nearest, shown};
use crate::units::Qps;

/// Longer lines are refused before they are read whole, so that memory stays bounded whatever the file holds.
const MAX_LINE: usize = 4096;

/// Unix times beyond this are taken for milliseconds in the error's hint: 2286 in seconds, 1970 in milliseconds.
const MILLISECONDS: i64 = 10_000_000_000;

/// Reads the trace in the file at `path`.
///
/// # Errors
/// If the file cannot be read or is no trace; the error says where and what to do.
pub fn read_file(path: &Path) -> Result<Trace, ReadError> {
    let name = path.display().to_string();
    let failed =
        |e: io::Error| ReadError { name: name.clone(), at: Place::default(), problem: Problem::Io(e) };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(ReadError { name, at: Place::default(), problem: Problem::Directory });
    }
    read(BufReader::with_capacity(1 << 16, file), &name)
}

/// Reads a trace from `input`; `name` says in errors and reports where it comes from.
///
/// # Errors
/// If the input cannot be read or is no trace.
pub fn read(input: impl BufRead, name: &str) -> Result<Trace, ReadError> {
    let mut reader = Lines { input, buffer: Vec::with_capacity(256), number: 0 };
    parse(&mut reader, name).map_err(|(at, problem)| ReadError { name: name.to_owned(), at, problem })
}

/// Writes a trace so that [`read`] gives it back.
///
/// # Errors
/// If `output` cannot be written.
pub fn write(trace: &Trace, output: &mut impl Write) -> io::Result<()> {
    let optional = |value: Option<f64>| value.map_or(String::new(), |v| format!(",{v}"));
    let (p99, nq) = trace
        .iter()
        .fold((false, false), |(p, n), row| (p || row.p99_ms.is_some(), n || row.nq_per_second.is_some()));
    let names = [(p99, ",p99_ms"), (nq, ",nq_per_second")].map(|(used, name)| if used { name } else { "" });
    writeln!(output, "timestamp,qps{}{}", names[0], names[1])?;
    for row in trace.iter() {
        write!(output, "{},{}", row.time, row.qps.get())?;
        for (used, value) in [(p99, row.p99_ms), (nq, row.nq_per_second)] {
            if used {
                output.write_all(if value.is_some() { b"" } else { b"," })?;
                output.write_all(optional(value).as_bytes())?;
            }
        }
        output.write_all(b"\n")?;
    }
    Ok(())
}

/// Why a file is no trace, and where.
#[derive(Debug, thiserror::Error)]
#[error("{name}{at}: {problem}")]
pub struct ReadError {
    name: String,
    at: Place,
    problem: Problem,
}

impl ReadError {
    /// The line that it concerns, counted from 1.
    #[must_use]
    pub fn line(&self) -> Option<u64> {
        self.at.line
    }

    /// The column of the table that it concerns.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        self.at.field
    }
}

/// Where in a file something is wrong.
#[derive(Debug, Default, Clone, Copy)]
struct Place {
    line: Option<u64>,
    field: Option<&'static str>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(field) = self.field {
            write!(f, ", field {field}")?;
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is a directory; name a CSV file")]
    Directory,
    #[error("the file is empty; it must start with the header \"timestamp,qps\"")]
    Empty,
    #[error(
        "not text (a compressed or binary file?); a trace is UTF-8 CSV with the header \"timestamp,qps\""
    )]
    Binary,
    #[error("the line is longer than {MAX_LINE} bytes; a trace has a few short columns")]
    LongLine,
    #[error(
        "the header lacks the column \"{0}\"; it must be \"timestamp,qps\", optionally with p99_ms and nq_per_second"
    )]
    MissingColumn(&'static str),
    #[error("unknown column \"{name}\"{hint}; the columns are timestamp, qps, p99_ms and nq_per_second")]
    UnknownColumn { name: String, hint: String },
    #[error("the column \"{0}\" stands twice")]
    ColumnTwice(&'static str),
    #[error("{found} fields where the header has {expected}")]
    FieldCount { found: usize, expected: usize },
    #[error("\"{0}\" is no time; use RFC 3339 with a zone (2026-11-02T09:00:00Z) or Unix seconds")]
    NoTime(String),
    #[error("{0} is too far from now for Unix seconds (milliseconds? divide by 1000)")]
    Milliseconds(i64),
    #[error("\"{0}\" is no number")]
    NoNumber(String),
    #[error("the field is empty; leave the whole row out where there is no data")]
    EmptyField,
    #[error("{0} is not possible: a finite number of 0 or more is needed")]
    NoRate(f64),
    #[error("{0}")]
    Fault(#[from] Fault),
}

type Wrong = (Place, Problem);

/// Reads lines of bounded length and counts them.
struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The next line that is not blank, without its end; `None` at the end of the input.
    fn next(&mut self) -> Result<Option<&str>, Wrong> {
        loop {
            self.buffer.clear();
            let limit = MAX_LINE as u64 + 1;
            let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.buffer);
            self.number += 1;
            match read {
                Err(e) => return Err((Place::default(), e.into())),
                Ok(0) => return Ok(None),
                Ok(n) if n as u64 == limit && self.buffer.last() != Some(&b'\n') => {
                    return Err(self.too_long());
                }
                Ok(_) if self.buffer.iter().all(u8::is_ascii_whitespace) => {}
                Ok(_) => break,
            }
        }
        let place = self.place();
        let line = if self.number == 1 { without_bom(&self.buffer) } else { &self.buffer };
        match std::str::from_utf8(line) {
            Ok(text) if !text.contains('\0') => Ok(Some(text.trim_end_matches(['\n', '\r']))),
            _ => Err((place, Problem::Binary)),
        }
    }

    fn too_long(&self) -> Wrong {
        let text = std::str::from_utf8(&self.buffer).map_or_else(|e| e.error_len().is_none(), |_| true);
        let binary = !text || self.buffer.contains(&0);
        (self.place(), if binary { Problem::Binary } else { Problem::LongLine })
    }

    fn place(&self) -> Place {
        Place { line: Some(self.number), field: None }
    }
}

fn without_bom(line: &[u8]) -> &[u8] {
    line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line)
}

/// The columns that a trace may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Timestamp,
    Qps,
    P99Ms,
    NqPerSecond,
}

impl Column {
    const ALL: [Self; 4] = [Self::Timestamp, Self::Qps, Self::P99Ms, Self::NqPerSecond];

    fn name(self) -> &'static str {
        match self {
            Self::Timestamp => "timestamp",
            Self::Qps => "qps",
            Self::P99Ms => "p99_ms",
            Self::NqPerSecond => "nq_per_second",
        }
    }
}

fn parse<R: BufRead>(lines: &mut Lines<R>, name: &str) -> Result<Trace, Wrong> {
    let Some(header) = lines.next()? else {
        return Err((Place::default(), Problem::Empty));
    };
    let columns = match columns(header) {
        Ok(columns) => columns,
        Err(problem) => return Err((lines.place(), problem)),
    };
    let mut builder = TraceBuilder::default();
    let mut numbers = Vec::new();
    loop {
        let place = match lines.next()? {
            None => break,
            Some(line) => row(line, &columns)
                .and_then(|row| builder.push(row).map_err(|e| (Column::Timestamp.name(), e.into()))),
        };
        if let Err((field, problem)) = place {
            let field = (!field.is_empty()).then_some(field);
            return Err((Place { field, ..lines.place() }, problem));
        }
        numbers.push(lines.number);
    }
    builder.finish(name).map_err(|fault| {
        let line = fault.row().and_then(|row| numbers.get(row).copied());
        let field = line.map(|_| Column::Timestamp.name());
        (Place { line, field }, fault.into())
    })
}

/// The columns that a header names, in its order.
fn columns(header: &str) -> Result<Vec<Column>, Problem> {
    let mut columns = Vec::new();
    for name in fields(header) {
        let Some(column) = Column::ALL.into_iter().find(|c| c.name() == name) else {
            return Err(Problem::UnknownColumn { name: shown(name), hint: hint(name) });
        };
        if columns.contains(&column) {
            return Err(Problem::ColumnTwice(column.name()));
        }
        columns.push(column);
    }
    match [Column::Timestamp, Column::Qps].into_iter().find(|c| !columns.contains(c)) {
        Some(missing) => Err(Problem::MissingColumn(missing.name())),
        None => Ok(columns),
    }
}

/// What the writer of an unknown column name may have meant.
fn hint(name: &str) -> String {
    if name.is_empty() || parse_time(name).is_ok() {
        return " (is the header missing?)".to_owned();
    }
    nearest(name, Column::ALL.map(Column::name))
        .map_or(String::new(), |near| format!(" (did you mean \"{near}\"?)"))
}

/// The fields of a line, without the quotes and blanks around them. No field of a trace can hold a comma or a line end,
/// so this is all of CSV that is needed, and each line can be bounded before it is taken apart.
fn fields(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|field| {
        let field = field.trim();
        field.strip_prefix('"').and_then(|f| f.strip_suffix('"')).map_or(field, str::trim)
    })
}

fn row(line: &str, columns: &[Column]) -> Result<Row, (&'static str, Problem)> {
    let found = fields(line).count();
    if found != columns.len() {
        return Err(("", Problem::FieldCount { found, expected: columns.len() }));
    }
    let mut row = Row { time: Timestamp::UNIX_EPOCH, qps: Qps::ZERO, p99_ms: None, nq_per_second: None };
    for (column, field) in columns.iter().zip(fields(line)) {
        let read = match column {
            Column::Timestamp => parse_time(field).map(|time| row.time = time),
            Column::Qps => parse_number(field).map(|qps| row.qps = qps),
            Column::P99Ms => parse_optional(field).map(|p99| row.p99_ms = p99),
            Column::NqPerSecond => parse_optional(field).map(|nq| row.nq_per_second = nq),
        };
        read.map_err(|problem| (column.name(), problem))?;
    }
    Ok(row)
}

fn parse_time(field: &str) -> Result<Timestamp, Problem> {
    let digits = field.strip_prefix('-').unwrap_or(field);
    let no_time = || if field.is_empty() { Problem::EmptyField } else { Problem::NoTime(shown(field)) };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return field.parse().map_err(|_| no_time());
    }
    let (whole, fraction) = field.split_once('.').unwrap_or((field, ""));
    let seconds: i64 = whole.parse().map_err(|_| no_time())?;
    if fraction.bytes().any(|b| b != b'0') {
        return Err(if fraction.contains('.') { no_time() } else { Fault::FractionOfSecond.into() });
    }
    if seconds.abs() > MILLISECONDS {
        return Err(Problem::Milliseconds(seconds));
    }
    Timestamp::from_second(seconds).map_err(|_| no_time())
}

fn parse_number(field: &str) -> Result<Qps, Problem> {
    if field.is_empty() {
        return Err(Problem::EmptyField);
    }
    let number: f64 = field.parse().map_err(|_| Problem::NoNumber(shown(field)))?;
    Qps::new(number).map_err(|_| Problem::NoRate(number))
}

fn parse_optional(field: &str) -> Result<Option<f64>, Problem> {
    if field.is_empty() { Ok(None) } else { parse_number(field).map(|q| Some(q.get())) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_text(text: &str) -> Result<Trace, ReadError> {
        read(text.as_bytes(), "load.csv")
    }

    #[test]
    fn times_and_columns_in_every_form() {
        let expected = read_text("timestamp,qps\n1700000000,1\n1700000060,2.5\n").unwrap();
        let same = [
            "timestamp,qps\n2023-11-14T22:13:20Z,1\n2023-11-14T22:14:20Z,2.5\n",
            "timestamp,qps\n2023-11-15T06:13:20+08:00,1.0\n2023-11-14T22:14:20+00:00,2.5",
            "\u{feff}timestamp,qps\r\n1700000000,1\r\n1700000060.000,2.5\r\n\r\n",
            "qps , timestamp\n 1 , 1700000000\n\n2.5,\"1700000060\"\n",
        ];
        for text in same {
            assert_eq!(read_text(text).unwrap(), expected, "{text:?}");
        }
        assert_eq!(expected.rows(), 2);
    }

    #[test]
    fn optional_columns_may_have_holes() {
        let text = "timestamp,qps,p99_ms,nq_per_second\n0,1,,4\n60,2,12.5,8\n";
        let trace = read_text(text).unwrap();
        let rows: Vec<_> = trace.iter().collect();
        assert_eq!((rows[0].p99_ms, rows[1].p99_ms), (None, Some(12.5)));
        assert_eq!(trace.in_vectors().unwrap().qps(), [4.0, 8.0]);
        let mut written = Vec::new();
        write(&trace, &mut written).unwrap();
        assert_eq!(read(&written[..], "load.csv").unwrap(), trace);
    }

    #[test]
    fn errors_say_where_and_what() {
        let cases = [
            ("", None, None, "empty"),
            ("\n\n", None, None, "empty"),
            ("timestamp,qps\n", None, None, "rows of data: 0"),
            ("timestamp,qps\n0,1\n", None, None, "rows of data: 1"),
            ("timestamp\n0\n", Some(1), None, "lacks the column \"qps\""),
            ("time,qps\n", Some(1), None, "unknown column \"time\""),
            ("timestamp,QPS\n", Some(1), None, "did you mean \"qps\"?"),
            ("0,1\n60,1\n", Some(1), None, "is the header missing?"),
            ("timestamp,qps,qps\n", Some(1), None, "stands twice"),
            ("timestamp,qps\n0,1\n60,-3\n", Some(3), Some("qps"), "-3 is not possible"),
            ("timestamp,qps\n0,1\n60,NaN\n", Some(3), Some("qps"), "NaN is not possible"),
            ("timestamp,qps\n0,1\n\n60,1e999\n", Some(4), Some("qps"), "inf is not possible"),
            ("timestamp,qps\n0,1\n60,\n", Some(3), Some("qps"), "empty"),
            ("timestamp,qps\n0,x\n", Some(2), Some("qps"), "\"x\" is no number"),
            ("timestamp,qps,p99_ms\n0,1,-1\n", Some(2), Some("p99_ms"), "not possible"),
            ("timestamp,qps\n0,1,2\n", Some(2), None, "3 fields where the header has 2"),
            ("timestamp,qps\n0,1\n0,1\n", Some(3), Some("timestamp"), "row before too"),
            ("timestamp,qps\n60,1\n0,1\n", Some(3), Some("timestamp"), "ascend"),
            ("timestamp,qps\n0,1\n60,1\n150,1\n", Some(4), Some("timestamp"), "mixed steps"),
            ("timestamp,qps\n0.5,1\n", Some(2), Some("timestamp"), "fraction"),
            ("timestamp,qps\n1700000000000,1\n", Some(2), Some("timestamp"), "milliseconds?"),
            ("timestamp,qps\n2026-01-01 00:00,1\n", Some(2), Some("timestamp"), "with a zone"),
            ("timestamp,qps\n0,1\n400000000,1\n", Some(3), Some("timestamp"), "10 years"),
            ("timestamp,qps\n0,1\n7200,1\n", None, None, "3600 s"),
            ("\u{1f}\u{8b}\0\0", Some(1), None, "not text"),
        ];
        for (text, line, field, part) in cases {
            let error = read_text(text).unwrap_err();
            let message = error.to_string();
            assert_eq!((error.line(), error.field()), (line, field), "{text:?}: {message}");
            assert!(message.starts_with("load.csv") && message.contains(part), "{text:?}: {message}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused_early() {
        let endless = |byte| BufReader::new(io::repeat(byte));
        assert!(read(endless(b'7'), "x").unwrap_err().to_string().contains("longer than"));
        assert!(read(endless(0), "x").unwrap_err().to_string().contains("not text"));
        assert!(read(endless(0xff), "x").unwrap_err().to_string().contains("not text"));
    }

    #[test]
    fn files_that_are_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_file(folder.path()).unwrap_err().to_string().contains("directory"));
        let missing = folder.path().join("none.csv");
        assert!(read_file(&missing).unwrap_err().to_string().contains("cannot be read"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_bytes_give_a_trace_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes[..], "load.csv");
        }

        #[test]
        fn almost_traces_give_a_trace_or_an_error(text in "(timestamp,qps\n)?([0-9TZ:.,+\\-eanif \"\r]{0,24}\n){0,8}") {
            if let Ok(trace) = read_text(&text) {
                prop_assert!(trace.rows() >= 2);
                prop_assert!(trace.qps().iter().all(|v| v.is_finite() && *v >= 0.0));
            }
        }

        #[test]
        fn what_is_written_is_read_back(
            start in -1_000_000_000_i64..4_000_000_000,
            step in 1_i64..3600,
            values in prop::collection::vec((0.0..1e12_f64, 1_i64..3), 2..60),
        ) {
            let mut seconds = start;
            let mut builder = TraceBuilder::default();
            for (qps, distance) in values {
                let time = Timestamp::from_second(seconds).unwrap();
                builder.push(Row { time, qps: Qps::clamped(qps), p99_ms: None, nq_per_second: None }).unwrap();
                seconds += step * distance;
            }
            if let Ok(trace) = builder.finish("load.csv") {
                let mut written = Vec::new();
                write(&trace, &mut written).unwrap();
                prop_assert_eq!(read(&written[..], "load.csv").unwrap(), trace);
            }
        }
    }
}
