//! Bytes as people see and type them.

use std::fmt::Write;

/// One line, whatever the bytes: control characters, backslashes and what is no UTF-8 are escaped.
pub fn escape(bytes: &[u8], line: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => line.push_str("\\\\"),
                _ if character.is_control() => line.extend(character.escape_default()),
                _ => line.push(character),
            }
        }
        for byte in chunk.invalid() {
            line.push_str("\\x");
            hexadecimal(*byte, line);
        }
    }
}

/// The same as a text of its own.
pub fn escaped(bytes: &[u8]) -> String {
    let mut line = String::new();
    escape(bytes, &mut line);
    line
}

/// Two digits.
pub fn hexadecimal(byte: u8, text: &mut String) {
    write!(text, "{byte:02x}").expect("a string takes everything");
}

/// The bytes that [`escape`] shows so.
///
/// # Errors
/// The part that it never writes.
pub fn unescape(line: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = line;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (character, length) = match rest {
            [b'\\', ..] => ('\\', 1),
            [b't', ..] => ('\t', 1),
            [b'r', ..] => ('\r', 1),
            [b'n', ..] => ('\n', 1),
            [b'x', high, low, ..] => {
                bytes.push(number(&[*high, *low])? as u8);
                rest = &rest[3..];
                continue;
            }
            [b'u', b'{', digits @ ..] => {
                let length = digits.iter().position(|byte| *byte == b'}').unwrap_or(0);
                let character = char::from_u32(number(&digits[..length])?);
                (character.ok_or_else(|| wrong(rest))?, length + 3)
            }
            _ => return Err(wrong(rest)),
        };
        bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &rest[length..];
    }
    Ok(bytes)
}

fn number(digits: &[u8]) -> Result<u32, String> {
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'));
    text.and_then(|text| u32::from_str_radix(text, 16).ok()).ok_or_else(|| wrong(digits))
}

fn wrong(at: &[u8]) -> String {
    let at = String::from_utf8_lossy(&at[..at.len().min(8)]);
    format!("a backslash before `{at}`: there are \\\\ \\t \\r \\n \\xff and \\u{{7f}}")
}

/// A word of a shell's command line.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A table: every column as wide as its longest cell.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut table = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        table += cells.collect::<String>().trim_end();
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_every_byte() {
        assert_eq!(escaped("a\tb\\ü\n".as_bytes()), r"a\tb\\ü\n");
        assert_eq!(escaped(b"\xff\xfe"), r"\xff\xfe");
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        let every: Vec<u8> = (0..=255).collect();
        for bytes in [&every[..], "\u{7f}\u{85}ü\\u{41}\\x".as_bytes(), b"", b"\\", b"\xe2\x82"] {
            assert_eq!(unescape(escaped(bytes).as_bytes()).as_deref(), Ok(bytes));
        }
    }

    #[test]
    fn what_is_never_shown_is_refused() {
        for line in
            [r"\", r"\q", r"\x", r"\x4", r"\xg0", r"\x+1", r"\u", r"\u{", r"\u{}", r"\u{d800}"]
        {
            assert!(unescape(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn a_shell_reads_a_quoted_word_as_one() {
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }
}
