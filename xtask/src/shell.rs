//! Commands in a form that a person can read and paste into a shell.

use std::process::Command;

/// `command` as one could type it into a shell.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| quoted(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_they_must_be() {
        let mut command = Command::new("qemu");
        command.args(["a=b", "it's", "", "two words", "$x"]);
        assert_eq!(line(&command), r"qemu a=b 'it'\''s' '' 'two words' '$x'");
    }
}
