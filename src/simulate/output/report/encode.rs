//! Long series as short text: differences of whole numbers in as few bytes as they need, in base64.

/// A series of numbers of at least 0, in 65,536 levels up to its highest.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct Levels {
    /// What the highest level stands for.
    scale: f64,
    /// Differences between neighbouring levels.
    values: String,
}

const TOP_LEVEL: f64 = 65_535.0;

/// `values` in levels.
pub(super) fn levels(values: &[f64]) -> Levels {
    let scale = values.iter().copied().fold(0.0, f64::max);
    let mut bytes = Vec::with_capacity(values.len() * 2);
    let mut last = 0;
    for value in values {
        let level = if scale > 0.0 { level(value / scale) } else { 0 };
        push_difference(&mut bytes, level - last);
        last = level;
    }
    Levels { scale, values: base64(&bytes) }
}

#[expect(clippy::cast_possible_truncation, reason = "float casts saturate")]
fn level(share: f64) -> i64 {
    (share * TOP_LEVEL).round() as i64
}

/// Counts as pairs: for how many steps a count stays, and by how much it differs from the one before.
pub(super) fn counts(values: &[u32]) -> String {
    let mut bytes = Vec::new();
    let mut last = 0;
    for run in values.chunk_by(|a, b| a == b) {
        let count = i64::from(run.first().copied().unwrap_or(0));
        push_number(&mut bytes, run.len() as u64);
        push_difference(&mut bytes, count - last);
        last = count;
    }
    base64(&bytes)
}

/// Marks as lengths of runs, in turn of unmarked and marked steps; unmarked ones come first.
pub(super) fn marks(values: &[bool]) -> String {
    let mut bytes = Vec::new();
    if values.first() == Some(&true) {
        push_number(&mut bytes, 0);
    }
    for run in values.chunk_by(|a, b| a == b) {
        push_number(&mut bytes, run.len() as u64);
    }
    base64(&bytes)
}

/// Small numbers of either sign in few bytes: 0, −1, 1, −2, … become 0, 1, 2, 3, …
fn push_difference(bytes: &mut Vec<u8>, difference: i64) {
    push_number(bytes, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
}

/// Seven bits a byte, the lowest first; the eighth bit says that more follow.
fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(low_bits(number) | 0x80);
        number >>= 7;
    }
    bytes.push(low_bits(number));
}

fn low_bits(number: u64) -> u8 {
    u8::try_from(number & 0x7f).unwrap_or(0)
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let six = bits >> (18 - 6 * place) & 0x3f;
            let letter = ALPHABET.get(six as usize).filter(|_| place <= chunk.len());
            text.push(letter.map_or('=', |letter| char::from(*letter)));
        }
    }
    text
}

/// JSON that may stand in a `<script>` element: nothing in it ends the element or starts a comment.
pub(super) fn script_safe(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            '\u{2028}' => safe.push_str("\\u2028"),
            '\u{2029}' => safe.push_str("\\u2029"),
            c => safe.push(c),
        }
    }
    safe
}

/// Text that may stand in HTML, in an element or in a quoted attribute.
pub(super) fn html_safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // No HTML has these; a file's name may.
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(text: &str) -> Vec<u8> {
        let value = |c: u8| match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let digits: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(value).collect();
        let bits: Vec<bool> =
            digits.iter().flat_map(|d| (0..6).rev().map(move |i| d >> i & 1 == 1)).collect();
        bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | u8::from(*bit))).collect()
    }

    fn numbers(text: &str) -> Vec<u64> {
        let mut numbers = vec![];
        let (mut number, mut shift) = (0, 0);
        for byte in decoded(text) {
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                numbers.push(number);
                (number, shift) = (0, 0);
            }
        }
        numbers
    }

    fn signed(number: u64) -> i64 {
        (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
    }

    #[test]
    fn base64_is_the_usual_one() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn nothing_ends_the_script() {
        let json = serde_json::to_string("</script><!-- & \u{2028}").unwrap();
        let safe = script_safe(&json);
        assert!(!safe.contains(['<', '>', '&', '\u{2028}']));
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), "</script><!-- & \u{2028}");
        assert_eq!(html_safe("<b a='\"'>&\u{0}"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;\u{fffd}");
    }

    #[test]
    fn no_load_at_all_has_no_scale() {
        assert_eq!(levels(&[0.0, 0.0]), Levels { scale: 0.0, values: base64(&[0, 0]) });
        assert_eq!(levels(&[]).values, "");
    }

    proptest! {
        #[test]
        fn levels_come_back(values in prop::collection::vec(0.0..1e6_f64, 0..300), size in -200..290_i32) {
            let values: Vec<f64> = values.iter().map(|v| v * 10_f64.powi(size)).collect();
            let encoded = levels(&values);
            let mut level = 0;
            let differences = numbers(&encoded.values);
            prop_assert_eq!(differences.len(), values.len());
            for (value, difference) in values.iter().zip(&differences) {
                level += signed(*difference);
                let back = level as f64 / TOP_LEVEL * encoded.scale;
                prop_assert!((back - value).abs() <= encoded.scale / TOP_LEVEL);
            }
        }

        #[test]
        fn counts_come_back(values in prop::collection::vec(0..9_u32, 0..300)) {
            let (mut back, mut count) = (vec![], 0);
            for pair in numbers(&counts(&values)).chunks(2) {
                count += signed(pair[1]);
                back.extend((0..pair[0]).map(|_| u32::try_from(count).unwrap()));
            }
            prop_assert_eq!(back, values);
        }

        #[test]
        fn marks_come_back(values in prop::collection::vec(any::<bool>(), 0..300)) {
            let runs = numbers(&marks(&values));
            let back: Vec<bool> =
                runs.iter().enumerate().flat_map(|(i, run)| (0..*run).map(move |_| i % 2 == 1)).collect();
            prop_assert_eq!(back, values);
        }
    }
}
