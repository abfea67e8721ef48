//! What events are called where people read of them, and where they ask for them.

/// The name of an event, in small letters and with a hyphen between two words: `FetchesInvalidated`
/// is `fetches-forgotten`.
pub(crate) fn hyphened(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    for letter in name.chars() {
        if letter.is_uppercase() && text.ends_with(char::is_lowercase) {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// The event that a user means, hyphened: hyphens and capitals do not matter. `None` if there is
/// none.
pub(crate) fn meant(text: &str) -> Option<String> {
    let letters = |name: &str| name.replace('-', "").to_lowercase();
    let mut names = trace::Event::NAMES.iter();
    let name = names.find(|name| letters(name) == letters(text))?;
    Some(hyphened(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_do_not_run_together() {
        assert_eq!(hyphened("FetchesForgotten"), "fetches-forgotten");
        assert_eq!(hyphened("Split"), "split");
        assert_eq!(hyphened("table taken away"), "table taken away");
        // What is one word is in the language, or Arm's.
        let one_word: Vec<_> = trace::Event::NAMES
            .iter()
            .map(|name| hyphened(name))
            .filter(|name| !name.contains('-') && name.len() > 8)
            .collect();
        assert_eq!(one_word, [""; 0]);
    }

    #[test]
    fn an_event_is_found_however_it_is_spelt() {
        for text in ["grace-begun", "gracebegun", "GraceBegun", "GRACE-BEGUN"] {
            assert_eq!(meant(text).as_deref(), Some("grace-begun"), "{text}");
        }
        assert_eq!(meant("splt"), None);
    }
}
