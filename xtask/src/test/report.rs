//! What came of the tests, as files for other programs: JUnit's XML, which CI systems show, and
//! JSON.

use anyhow::{Context, Result};
use output::Kind;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestRerun, TestSuite};

use super::summary::{Row, Summary};
use super::transcript::{Case, Outcome};

/// JUnit's files.
pub(super) const JUNIT: Kind = Kind {
    name: "a JUnit report",
    is_one: |head| String::from_utf8_lossy(head).contains("<testsuites"),
};

/// Our own.
pub(super) const JSON: Kind = Kind {
    name: "a summary of tests",
    is_one: |head| head.starts_with(b"{\n  \"steps\": ["),
};

/// The summary as JUnit has it: a step is a test suite, and a binary the class of its tests.
pub(super) fn junit(summary: &Summary) -> Result<String> {
    let mut report = Report::new("tessera");
    report.add_test_suites(summary.rows().iter().map(suite));
    report.to_string().context("could not make a JUnit report")
}

/// The summary as JSON.
pub(super) fn json(summary: &Summary) -> Result<String> {
    let text = serde_json::to_string_pretty(summary).context("could not make JSON")?;
    Ok(text + "\n")
}

fn suite(row: &Row) -> TestSuite {
    let mut suite = TestSuite::new(row.name.to_string());
    suite.set_time(row.took.elapsed);
    suite.add_test_cases(row.cases.iter().map(case));
    if let Some(reason) = &row.skipped {
        let mut status = TestCaseStatus::skipped();
        status.set_message(reason);
        suite.add_test_case(TestCase::new(row.name.to_string(), status));
    }
    suite
}

fn case(case: &Case) -> TestCase {
    let failure = NonSuccessKind::Failure;
    let status = match &case.outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Flaky(said) => {
            let mut rerun = TestRerun::new(failure);
            rerun.set_message(said);
            let mut status = TestCaseStatus::success();
            status.add_rerun(rerun);
            status
        }
        Outcome::Failed(text) => {
            let mut status = TestCaseStatus::non_success(failure);
            status.set_description(text);
            status
        }
        Outcome::Skipped(reason) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(reason);
            status
        }
    };
    let mut test = TestCase::new(&case.name, status);
    test.set_classname(&case.suite);
    test
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::count::Count;
    use crate::test::steps::StepName;
    use crate::test::took::Took;
    use serde_json::{Value, json as value};

    fn summary() -> Summary {
        let case = |name: &str, outcome| Case {
            suite: "arch".to_owned(),
            name: name.to_owned(),
            outcome,
        };
        let cases = vec![
            case("a", Outcome::Passed),
            case("b", Outcome::Failed("1 < 2\n".to_owned())),
            case("c", Outcome::Skipped("no browser".to_owned())),
            case("d", Outcome::Flaky("passed in try 2".to_owned())),
        ];
        let count = Count {
            passed: 2,
            failed: 1,
            skipped: 1,
            flaky: 1,
        };
        let mut summary = Summary::default();
        summary.add(Row::ran(StepName::Host, count, cases, Took::default()));
        summary.add(Row::skipped(StepName::Miri, "no nightly".to_owned()));
        summary
    }

    #[test]
    fn junit_has_every_test_with_its_end() {
        let xml = junit(&summary()).expect("XML");
        assert!((JUNIT.is_one)(xml.as_bytes()));
        let read = Report::deserialize_from_str(&xml).expect("JUnit's format");
        assert_eq!(read.test_suites.len(), 2);
        let host = &read.test_suites[0];
        assert_eq!((host.tests, host.failures), (4, 1));
        assert!(host.test_cases.iter().all(|case| {
            case.classname
                .as_ref()
                .is_some_and(|name| name.as_str() == "arch")
        }));
        assert!(xml.contains("1 &lt; 2"), "{xml}");
        assert!(
            xml.contains("<flakyFailure message=\"passed in try 2\""),
            "{xml}"
        );
        assert!(xml.contains("<skipped message=\"no nightly\"/>"), "{xml}");
    }

    #[test]
    fn json_has_every_test_with_its_end() {
        let text = json(&summary()).expect("JSON");
        assert!((JSON.is_one)(text.as_bytes()));
        let read: Value = serde_json::from_str(&text).expect("JSON");
        let host = &read["steps"][0];
        assert_eq!(host["name"], "host");
        assert_eq!(host["passed"], 2);
        assert_eq!(
            host["tests"][1],
            value!({"suite": "arch", "name": "b", "outcome": "failed", "text": "1 < 2\n"})
        );
        assert_eq!(host["tests"][0]["outcome"], "passed");
        assert_eq!(read["steps"][1]["reason"], "no nightly");
        assert_eq!(read["failed"], 1);
    }
}
