//! Commands in a form that a person can read and paste into a shell.

use std::process::Command;
use std::{env, iter};

/// `command` as one could type it into a shell.
pub fn line(command: &Command) -> String {
    let program = command.get_program();
    // Cargo's own path, which it hands to what it runs, is long and says nothing.
    let is_cargo = env::var_os("CARGO").is_some_and(|cargo| cargo == program);
    let program = if is_cargo { "cargo".as_ref() } else { program };
    iter::once(program)
        .chain(command.get_args())
        .map(|word| quoted(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// `word` as one could type it into a shell.
pub(crate) fn quoted(word: &str) -> String {
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
