//! Tests of all published shapes of a job document, and the outcome of each.

use std::{fs, path::Path};

use super::*;

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/it/fixtures/basiq");
    let text = fs::read_to_string(path.join(format!("{name}.json"))).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    // Of a list of jobs, the first one counts.
    match document.get("data") {
        Some(Value::Array(jobs)) => jobs[0].clone(),
        _ => document,
    }
}

/// Returns when the fixture is looked at: one second after the job last changed.
fn looked_at(snapshot: &relay_domain::JobSnapshot) -> Timestamp {
    snapshot.updated.unwrap() + Duration::from_secs(1)
}

fn seen(name: &str) -> Value {
    let snapshot = read_job(&JobDocument(fixture(name)), Timestamp::MAX);
    let at = looked_at(&snapshot);
    let known = JobFacts {
        started_at: snapshot.created.unwrap(),
        ..usual()
    };
    let finding = find(&snapshot, None);
    let judged = judge(&finding, &WatchOptions::default(), &known, &TIMINGS, at);
    json!({
        "outcome": as_json(judged),
        "context": snapshot.context,
        "resources": resources(&snapshot),
        "expectsChallenge": expects_challenge(&snapshot),
        "created": snapshot.created,
        "updated": snapshot.updated,
    })
}

macro_rules! fixtures_are_told {
    ($($test:ident => $name:literal,)+) => {
        $(#[test] fn $test() { insta::assert_json_snapshot!($name, seen($name)); })+

        #[test]
        fn every_fixture_has_a_snapshot() {
            let mut tested = vec![$($name),+];
            tested.sort_unstable();
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/it/fixtures/basiq");
            let mut there: Vec<String> = fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().display().to_string())
                .filter(|name| name.starts_with("job"))
                .collect();
            there.sort_unstable();
            assert_eq!(there, tested);
        }
    };
}

fixtures_are_told! {
    a_refused_consent => "job-data-failed",
    a_connection_under_way => "job-data-in-progress",
    a_connection_that_is_ready => "job-data-success",
    two_security_questions => "job-mfa-security-questions",
    a_token_in_a_list => "job-mfa-token-array-result",
    a_government_login_refused => "job-mygov-failed",
    a_government_login_under_way => "job-mygov-in-progress",
    a_government_login_that_is_ready => "job-mygov-success",
    a_report_that_failed_without_a_word => "job-report-failed",
    a_report_under_way => "job-report-in-progress",
    a_report_that_is_ready => "job-report-success",
    a_statement_of_another_bank => "job-statement-failed",
    a_statement_under_way => "job-statement-in-progress",
    a_report_with_other_names_for_its_dates => "job-statement-report-created-date",
    a_statement_that_is_ready => "job-statement-success",
    a_job_of_an_older_version => "job-v21-fixture",
    a_job_of_a_list => "jobs-list-v21-fixture",
}
