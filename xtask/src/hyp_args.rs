//! The hypervisor's boot arguments: space-separated `key=value`, values quoted where they have
//! spaces. They are put together here and read by the hypervisor. Where that does not understand
//! one it says so on the console and goes on, which is easily overlooked. So its parser is asked
//! here first.

use anyhow::{Result, anyhow, bail};
use bootargs::{Complaint, KNOWN, Reason};

/// Boot arguments, each key once, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct HypArgs(Vec<String>);

impl HypArgs {
    /// Takes boot arguments as the user wrote them.
    ///
    /// # Errors
    ///
    /// When there is one that the hypervisor would not understand; the message lists those there
    /// are.
    pub fn parse(text: &str) -> Result<Self> {
        let mut refused = Vec::new();
        let mut is_unknown = false;
        bootargs::parse(text, &mut |Complaint { argument, reason }| {
            is_unknown |= matches!(reason, Reason::Unknown | Reason::NoValue);
            refused.push(format!("boot argument `{argument}`: {reason}"));
        });
        if !refused.is_empty() {
            // The reasons come last, where eyes are.
            let known = format!("the hypervisor takes\n    {}\n", KNOWN.join("\n    "));
            let known = if is_unknown { known } else { String::new() };
            bail!("{known}{}", refused.join("\n"));
        }
        Ok(Self(bootargs::words(text).map(str::to_owned).collect()))
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
    /// When the key is there already, or the hypervisor would not understand the value.
    pub fn option(&mut self, key: &str, option: &str, value: Option<String>) -> Result<()> {
        if value.is_some() && self.has(key) {
            bail!("{option} and the boot argument `{key}=` say the same thing; give one of them");
        }
        if let Some(value) = value {
            let mut refused = Ok(());
            bootargs::parse(
                &format!("{key}={value}"),
                &mut |Complaint { reason, .. }| {
                    refused = Err(anyhow!("{option} {value}: {reason}"));
                },
            );
            refused?;
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
        let args = HypArgs::parse("  log=debug guest-args=\"seconds=1 seed=2\"\tvcpus=1 ");
        let args = args.expect("arguments");
        let words = ["log=debug", "guest-args=\"seconds=1 seed=2\"", "vcpus=1"];
        assert_eq!(args.0, words);
        assert!(args.has("guest-args") && args.has("vcpus") && !args.has("seconds"));
        assert_eq!(HypArgs::parse("").expect("none").to_string(), "");
    }

    #[test]
    fn what_the_hypervisor_would_not_understand_is_refused_with_what_it_would() {
        let error = |text| HypArgs::parse(text).expect_err(text).to_string();
        for (text, reason) in [
            (
                "log=debug compation=off",
                "boot argument `compation=off`: unknown",
            ),
            (
                "quiet",
                "boot argument `quiet`: no value, expected key=value",
            ),
            (
                "a=1 b=2",
                "boot argument `a=1`: unknown\nboot argument `b=2`: unknown",
            ),
        ] {
            let error = error(text);
            assert!(error.ends_with(reason), "{error}");
            assert!(
                error.contains("\n    compaction=on|off|stress\n"),
                "{error}"
            );
        }
        // A user who has the key right is told what it takes, and nothing else.
        for (text, reason) in [
            (
                "compaction=offf",
                "boot argument `compaction=offf`: expected on, off or stress",
            ),
            (
                "guest-args=\"x",
                "boot argument `guest-args=\"x`: its closing quote is missing",
            ),
        ] {
            assert_eq!(error(text), reason);
        }
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
        let error = args.option("guest-memory", "--guest-memory", Some("131073K".into()));
        let error = error.expect_err("no whole page").to_string();
        assert!(
            error.starts_with("--guest-memory 131073K: expected a size"),
            "{error}"
        );
        let error = args.option("vcpus", "--vcpus", Some("3".into()));
        assert!(error.is_err_and(|e| e.to_string().contains("--vcpus")));
    }
}
