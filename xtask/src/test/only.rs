//! What `--only` asks for: steps, and in those that have tests with names, some of them.

use std::str::FromStr;

use anyhow::{Result, bail};
use clap::ValueEnum;

use super::steps::StepName;

/// One value of `--only`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Only {
    /// A step.
    Step(StepName),
    /// The tests whose name contains this.
    Named(String),
}

impl FromStr for Only {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match StepName::from_str(text, false) {
            Ok(step) => Self::Step(step),
            Err(_) => Self::Named(text.to_owned()),
        })
    }
}

/// The tests that are asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// In these steps; none stands for all.
    pub(super) steps: Vec<StepName>,
    /// Those whose name contains one of these; none stands for all.
    pub(super) names: Vec<String>,
}

impl Asked {
    /// What the values of `--only` ask for.
    ///
    /// # Errors
    ///
    /// When tests are named, and the steps do not say where to look for them.
    pub(super) fn new(values: &[Only]) -> Result<Self> {
        let mut asked = Self::default();
        for value in values {
            match value {
                Only::Step(step) => asked.steps.push(*step),
                Only::Named(name) => asked.names.push(name.clone()),
            }
        }
        let Some(name) = asked.names.first() else {
            return Ok(asked);
        };
        if asked.steps.is_empty() {
            let known = StepName::value_variants().iter().map(ToString::to_string);
            let known: Vec<_> = known.collect();
            bail!(
                "{name} is no step; the steps are {}. To run a test of this name, say in which step: \
                 --only boot {name}",
                known.join(", ")
            );
        }
        let mut steps = asked.steps.iter();
        if let Some(step) = steps.find(|step| !step.has_named_tests()) {
            bail!("{name} cannot be looked for in the step {step}, which is only run as a whole");
        }
        Ok(asked)
    }

    /// Whether a step is asked for.
    pub(super) fn has(&self, step: StepName) -> bool {
        self.steps.is_empty() || self.steps.contains(&step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Result<Asked> {
        let values = words.iter().map(|word| word.parse().expect("any word"));
        Asked::new(&values.collect::<Vec<Only>>())
    }

    fn refused(words: &[&str]) -> String {
        asked(words).expect_err("a refusal").to_string()
    }

    #[test]
    fn steps_come_with_the_names_of_tests() {
        let boot = asked(&["boot", "hello-max", "image"]).expect("understood");
        assert_eq!(boot.steps, [StepName::Boot]);
        assert_eq!(boot.names, ["hello-max", "image"]);
        assert!(boot.has(StepName::Boot) && !boot.has(StepName::Host));
        assert!(asked(&[]).expect("understood").has(StepName::Fmt));
    }

    #[test]
    fn names_need_a_step_that_has_them() {
        let unknown = refused(&["bot"]);
        assert!(unknown.contains("the steps are fmt, clippy, "), "{unknown}");
        let whole = refused(&["host", "fmt", "frames"]);
        assert!(whole.contains("in the step fmt"), "{whole}");
    }
}
