//! The hypervisor's boot arguments: space-separated `key=value`, values quoted where they have
//! spaces. They are put together here and read by the hypervisor, which names unknown ones.

use anyhow::{Result, bail};

/// Boot arguments, each key once, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct HypArgs(Vec<String>);

impl HypArgs {
    /// Takes boot arguments as the user wrote them.
    ///
    /// # Errors
    ///
    /// When a quote is not closed.
    pub fn parse(text: &str) -> Result<Self> {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        for c in text.chars() {
            quoted ^= c == '"';
            if c.is_whitespace() && !quoted {
                words.push(std::mem::take(&mut word));
            } else {
                word.push(c);
            }
        }
        if quoted {
            bail!("a quote is not closed in the boot arguments `{text}`");
        }
        words.push(word);
        words.retain(|word| !word.is_empty());
        Ok(Self(words))
    }

    /// Whether an argument has this key.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|word| key_of(word) == key)
    }

    /// Adds `key=value`, unless the key is there already; `value` is quoted if need be.
    pub fn default(&mut self, key: &str, value: &str) {
        if !self.has(key) {
            let quote = if value.contains(' ') { "\"" } else { "" };
            self.0.push(format!("{key}={quote}{value}{quote}"));
        }
    }

    /// Adds `key=value` for the option `option` of the command line, where it was given.
    ///
    /// # Errors
    ///
    /// When the key is there already.
    pub fn option(&mut self, key: &str, option: &str, value: Option<String>) -> Result<()> {
        if value.is_some() && self.has(key) {
            bail!("{option} and the boot argument `{key}=` say the same thing; give one of them");
        }
        if let Some(value) = value {
            self.default(key, &value);
        }
        Ok(())
    }
}

impl std::fmt::Display for HypArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

fn key_of(word: &str) -> &str {
    word.split('=').next().unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_in_quotes_do_not_part_arguments() {
        let args = HypArgs::parse("  log=debug guest-args=\"seconds=1 seed=2\"\tx ").expect("args");
        assert_eq!(
            args.0,
            ["log=debug", "guest-args=\"seconds=1 seed=2\"", "x"]
        );
        assert!(args.has("guest-args") && args.has("x") && !args.has("seconds"));
        assert!(HypArgs::parse("a=\"b").is_err());
        assert_eq!(HypArgs::parse("").expect("none").to_string(), "");
    }

    #[test]
    fn defaults_give_way_and_options_do_not() {
        let mut args = HypArgs::parse("compaction=off").expect("args");
        args.default("compaction", "stress");
        args.default("guest-args", "seconds=1 seed=2");
        args.option("vcpus", "--vcpus", Some("2".into()))
            .expect("a new key");
        args.option("frames", "--frames", None).expect("nothing");
        let text = args.to_string();
        assert_eq!(
            text,
            "compaction=off guest-args=\"seconds=1 seed=2\" vcpus=2"
        );
        let error = args.option("vcpus", "--vcpus", Some("3".into()));
        assert!(error.is_err_and(|e| e.to_string().contains("--vcpus")));
    }
}
