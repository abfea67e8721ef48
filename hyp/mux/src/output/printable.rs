//! A guest's text as it may stand on the console: whatever acts on a terminal rather than being
//! seen is shown as an escape, so that a guest can neither forge the hypervisor's lines nor change
//! how others' look.

use core::fmt::{self, Write};
use core::ops::RangeInclusive;

/// Letters and marks that leave nothing to see (Unicode's Default_Ignorable_Code_Point), as far as
/// their category does not say so: joiners, fillers and selectors.
const UNSEEN: [RangeInclusive<char>; 9] = [
    '\u{34f}'..='\u{34f}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{e0000}'..='\u{e0fff}',
];

/// Text of which only what can be seen is shown as it is. Escaped are controls (C0 but for tabs,
/// DEL, C1), format characters (which have no width, or change the direction of text), separators
/// of lines and paragraphs, blanks other than a space, private and unassigned characters, and a
/// mark that would go onto what stands before the text. What is no UTF-8 is replaced.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at_start = true;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if is_seen(character, at_start) {
                    f.write_char(character)?;
                } else {
                    write!(f, "{}", character.escape_unicode())?;
                }
                at_start = false;
            }
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
                at_start = false;
            }
        }
        Ok(())
    }
}

/// Whether `character` can be seen and does nothing else.
fn is_seen(character: char, at_start: bool) -> bool {
    if character.is_ascii() {
        return character == '\t' || !character.is_ascii_control();
    }
    if UNSEEN.iter().any(|range| range.contains(&character)) {
        return false;
    }
    // What `Debug` of a string leaves as it is is printable, by Unicode's categories; of its first
    // character, no mark.
    let mut buffer = [b'x'; 5];
    let length = character.encode_utf8(&mut buffer[1..]).len();
    let from = usize::from(at_start);
    let text = str::from_utf8(&buffer[from..=length]).unwrap_or_default();
    text.escape_debug().skip(1 - from).eq([character])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Printable(text.as_bytes()).to_string()
    }

    #[test]
    fn text_of_any_language_stays() {
        for text in [
            "a\tb \"c\" \\ 'd'",
            "größer, naïve: 5 µs, 3 €",
            "e\u{301}te\u{301}",
            "漢字 かな 한국어",
            "ελληνικά русский",
            "עברית العربية",
            "हिन्दी ไทย",
            "│├─█ → ✓ 🙂",
        ] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn what_acts_on_a_terminal_is_escaped() {
        let controls = ('\0'..=' ').chain('\u{7f}'..='\u{a0}');
        let controls = controls.filter(|c| !"\t ".contains(*c));
        let separators = "\u{2028}\u{2029}".chars();
        let directions = "\u{61c}\u{200e}\u{200f}".chars();
        let embeddings = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        let no_width = "\u{ad}\u{34f}\u{115f}\u{180e}\u{200b}\u{200c}\u{200d}\u{2060}\u{3164}\u{feff}\u{fe0f}\u{ffa0}\u{fff9}\u{e0001}\u{e0041}\u{e0100}";
        let unknown = "\u{e000}\u{378}\u{10ffff}".chars();
        let all = controls
            .chain(separators)
            .chain(directions)
            .chain(embeddings)
            .chain(no_width.chars())
            .chain(unknown);
        for character in all {
            let text = shown(&format!("a{character}b"));
            let expected = format!("a\\u{{{:x}}}b", u32::from(character));
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_mark_stays_off_the_prefix() {
        assert_eq!(shown("\u{338}|"), "\\u{338}|");
        assert_eq!(shown("o\u{338}|"), "o\u{338}|");
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        assert_eq!(
            Printable(b"a\xffb\xe2\x82").to_string(),
            "a\u{fffd}b\u{fffd}"
        );
    }
}
