//! Lines of text for people.

/// The width that texts for terminals keep to.
const WIDTH: usize = 80;

/// `head` and then `text`, broken between words so that lines keep to 80 columns; lines after the first are indented.
/// A word that is longer stays whole. The end is a line end.
#[must_use]
pub fn wrapped(head: &str, text: &str, indent: usize) -> String {
    let mut lines = String::from(head);
    let mut column = head.chars().count();
    let mut is_first = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !is_first && column + 1 + length > WIDTH {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            (column, is_first) = (indent, true);
        }
        if !is_first {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
        is_first = false;
    }
    lines.truncate(lines.trim_end().len());
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_to_the_width_and_words_stay_whole() {
        let long = "x".repeat(90);
        let text = wrapped("head  ", &format!("{} {long} end", "word ".repeat(30)), 6);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH || line.trim() == long), "{text}");
        assert!(lines[1..].iter().all(|line| line.starts_with("      ")));
        assert_eq!(text.split_whitespace().count(), 33);
        assert_eq!(wrapped("only ", "", 5), "only\n");
    }
}
