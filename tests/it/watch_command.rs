//! `basiq-relay watch` registers a job at a running relay and follows it to its end.

use std::{process::Output, time::Duration};

use basiq_sandbox::SandboxOptions;
use relay_domain::clock::Clock;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::support::{
    failure, job,
    process::{RelayProcess, binary},
    scene::{Scene, ask},
};

/// A scene with a running relay, and a client's key.
struct Play {
    scene: Scene,
    relay: RelayProcess,
    key: String,
}

impl Play {
    async fn begin(environment: &[(&'static str, &str)]) -> Self {
        let mut scene = Scene::set(SandboxOptions::default()).await;
        scene.setup.environment = vec![("RELAY_POLL_MIN_INTERVAL", "200ms".to_owned())];
        let more = environment
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        scene.setup.environment.extend(more);
        let client = scene.setup.add_client("terminal").await;
        let key = client["apiKey"].as_str().unwrap().to_owned();
        let relay = scene.setup.start().await;
        Self { scene, relay, key }
    }

    /// Makes Basiq show the job `j-1` with these steps.
    fn job_has(&self, steps: &[(&str, &str, Value)]) {
        let document = job("j-1", Clock::system().now(), steps);
        self.scene.sandbox.seed_document("j-1", document);
    }

    /// Returns the command `watch` for that job, with the key in the environment.
    fn command(&self, more: &[&str]) -> Command {
        let hook = format!("{}/hook", self.scene.receiver.url());
        let mut command = binary();
        command
            .args(["watch", "j-1", "--url", &hook, "--relay", &self.relay.url])
            .args(more)
            .env("BASIQ_RELAY_KEY", &self.key)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        command
    }

    async fn end(self) {
        assert_eq!(self.relay.terminate().await.0, Some(0));
    }
}

/// A running command whose lines are read one by one.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn new(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> Option<String> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.lines.next_line());
        next.await.expect("a line in time").unwrap()
    }

    /// Returns the next line, parsed as JSON, without its time.
    async fn json(&mut self) -> Value {
        let line = self.line().await.expect("a line");
        let mut line: Value = serde_json::from_str(&line).unwrap();
        let at = line.as_object_mut().unwrap().remove("at").unwrap();
        assert!(at.as_str().unwrap().ends_with('Z'), "{at}");
        line
    }

    /// Reads to the last line. Returns the exit code and the text on standard error.
    async fn end(mut self) -> (Option<i32>, String) {
        assert_eq!(self.line().await, None);
        let mut errors = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut errors).await.unwrap();
        (self.child.wait().await.unwrap().code(), errors)
    }
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_job_is_followed_step_by_step_until_it_succeeded_and_was_told() {
    let play = Play::begin(&[]).await;
    play.job_has(&[
        ("verify-credentials", "in-progress", Value::Null),
        ("retrieve-accounts", "pending", Value::Null),
    ]);
    let mut watch = Running::new(play.command(&["--json", "--locale", "vi-VN"]));
    let begun = watch.json().await;
    assert_eq!(begun["kind"], "watch");
    assert_eq!(
        (&begun["jobId"], &begun["isNew"]),
        (&json!("j-1"), &json!(true))
    );
    let step = |title, status| json!({ "kind": "step", "title": title, "status": status });
    assert_eq!(
        watch.json().await,
        step("verify-credentials", "in-progress")
    );
    assert_eq!(watch.json().await, step("retrieve-accounts", "pending"));
    play.job_has(&[
        ("verify-credentials", "success", Value::Null),
        ("retrieve-accounts", "success", Value::Null),
    ]);
    assert_eq!(watch.json().await, step("verify-credentials", "success"));
    assert_eq!(watch.json().await, step("retrieve-accounts", "success"));
    let event = watch.json().await;
    assert_eq!(
        (&event["kind"], &event["status"]),
        (&json!("event"), &json!("success"))
    );
    assert!(
        event["userMessage"]
            .as_str()
            .unwrap()
            .starts_with("Mọi việc")
    );
    let attempt = watch.json().await;
    assert_eq!(
        (&attempt["kind"], &attempt["status"]),
        (&json!("attempt"), &json!(204))
    );
    assert_eq!(
        (&attempt["number"], &attempt["eventId"]),
        (&json!(1), &event["id"])
    );
    let ended = watch.json().await;
    assert_eq!(ended["kind"], "ended");
    assert_eq!(
        (&ended["state"], &ended["status"]),
        (&json!("settled"), &json!("success"))
    );
    assert_eq!(ended["delivery"], "delivered");
    assert_eq!(watch.end().await, (Some(0), String::new()));
    assert_eq!(
        play.scene.receiver.received()[0].body["watchId"],
        begun["watchId"]
    );
    play.end().await;
}

#[tokio::test]
async fn a_job_that_fails_ends_with_1_and_people_read_why_without_escape_codes() {
    let play = Play::begin(&[("RELAY_DELIVERY_RETRY_SCHEDULE", "1h")]).await;
    play.scene.receiver.answer(1, 500);
    play.job_has(&[
        (
            "verify-credentials",
            "failed",
            failure("invalid-credentials"),
        ),
        ("odd \u{1b}[31mstep", "pending", Value::Null),
    ]);
    let mut command = play.command(&["--operation", "create", "--until", "retrieve-accounts"]);
    let output = command.env("CLICOLOR_FORCE", "1").output().await.unwrap();
    let (told, errors) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{told}{errors}");
    assert_eq!(
        errors,
        "error: the job failed at verify-credentials: invalid-credentials\n"
    );
    for expected in [
        "watching job j-1 as wch_",
        "  step     verify-credentials        failed\n",
        "  event    1 failed  verify-credentials  invalid-credentials  → resubmit-credentials\n",
        "          Your bank did not accept these login details.",
        "  attempt  1 of event 1: 500 after ",
        " ms; again at ",
        "          send it now: basiq-relay redeliver wch_",
        "  settled; its last event is still on its way\n",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert!(!told.contains('\u{1b}'), "{told}");
    let callback = format!("          callback {}/hook\n", play.scene.receiver.url());
    assert!(told.contains(&callback), "{told}");
    // The first watch has settled, so this one is new.
    let mut watch = Running::new(play.command(&["--json"]));
    assert_eq!(watch.json().await["isNew"], true);
    play.end().await;
}

#[tokio::test]
async fn a_watch_that_is_there_already_is_followed_too_and_may_be_cancelled() {
    let play = Play::begin(&[]).await;
    play.job_has(&[("verify-credentials", "in-progress", Value::Null)]);
    let mut first = Running::new(play.command(&["--json"]));
    let begun = first.json().await;
    let key_file = play.scene.database.folder.path().join("key");
    std::fs::write(&key_file, format!("{}\n", play.key)).unwrap();
    let mut command = play.command(&["--key-file", key_file.to_str().unwrap()]);
    command.env("BASIQ_RELAY_KEY", "brk_of_another_relay");
    let mut second = Running::new(command);
    let id = begun["watchId"].as_str().unwrap();
    let line = second.line().await.unwrap();
    assert!(
        line.starts_with(&format!("already watching job j-1 as {id}")),
        "{line}"
    );
    let path = format!("DELETE /watch/{id}");
    assert_eq!(
        ask(&play.relay.url, &path, &play.key, None).await.status,
        204
    );
    let ended = loop {
        let line = first.json().await;
        if line["kind"] == "ended" {
            break line;
        }
    };
    assert_eq!(
        (&ended["state"], &ended["status"]),
        (&json!("cancelled"), &Value::Null)
    );
    let (code, errors) = first.end().await;
    assert_eq!(
        (code, errors.as_str()),
        (Some(1), "error: the watch was cancelled\n")
    );
    while let Some(line) = second.line().await {
        assert!(!line.contains("event"), "{line}");
    }
    assert_eq!(second.end().await.0, Some(1));
    play.end().await;
}

#[tokio::test]
async fn a_job_that_basiq_does_not_show_is_told_once_and_long_before_the_watch_ends() {
    let play = Play::begin(&[]).await;
    let mut watch = Running::new(play.command(&[]));
    for begins in [
        "watching job j-1",
        "          callback http",
        "          Basiq has not shown this job to the relay yet",
    ] {
        let line = watch.line().await.unwrap();
        assert!(line.starts_with(begins), "{line}");
    }
    play.job_has(&[("verify-credentials", "success", Value::Null)]);
    let next = watch.line().await.unwrap();
    assert!(next.contains("step     verify-credentials"), "{next}");
    while let Some(line) = watch.line().await {
        assert!(!line.contains("has not shown"), "{line}");
    }
    assert_eq!(watch.end().await.0, Some(0));
    play.end().await;
}

#[tokio::test]
async fn a_basiq_that_does_not_answer_is_told_instead_of_a_doubt_about_the_job() {
    let play = Play::begin(&[("RELAY_BASIQ_URL", "http://127.0.0.1:9")]).await;
    let mut watch = Running::new(play.command(&[]));
    for begins in [
        "watching job j-1",
        "          callback http",
        "          The relay cannot reach Basiq at present",
    ] {
        let line = watch.line().await.unwrap();
        assert!(line.starts_with(begins), "{line}");
    }
    drop(watch);
    play.end().await;
}

#[tokio::test]
async fn a_relay_that_comes_back_is_asked_again() {
    let mut play = Play::begin(&[]).await;
    let address = play.relay.url.strip_prefix("http://").unwrap().to_owned();
    play.scene.setup.environment.push(("RELAY_LISTEN", address));
    play.job_has(&[("verify-credentials", "in-progress", Value::Null)]);
    let mut watch = Running::new(play.command(&["--json"]));
    assert_eq!(watch.json().await["kind"], "watch");
    assert_eq!(watch.json().await["status"], "in-progress");
    play.relay.kill().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let document = job(
        "j-1",
        Clock::system().now(),
        &[("verify-credentials", "success", Value::Null)],
    );
    play.scene.sandbox.seed_document("j-1", document);
    let relay = play.scene.setup.start().await;
    assert_eq!(watch.json().await["status"], "success");
    let ended = loop {
        let line = watch.json().await;
        if line["kind"] == "ended" {
            break line;
        }
    };
    assert_eq!(ended["status"], "success");
    let (code, errors) = watch.end().await;
    assert_eq!(code, Some(0));
    assert!(
        errors.contains("does not answer") && errors.contains("asking again"),
        "{errors}"
    );
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert_eq!(relay.terminate().await.0, Some(0));
}

#[tokio::test]
async fn ctrl_c_ends_the_command_and_not_the_watch() {
    let play = Play::begin(&[]).await;
    play.job_has(&[("verify-credentials", "in-progress", Value::Null)]);
    let mut watch = Running::new(play.command(&["--json"]));
    let id = watch.json().await["watchId"].as_str().unwrap().to_owned();
    watch.json().await;
    let process = watch.child.id().unwrap().to_string();
    let sent = Command::new("kill").args(["-INT", &process]).status().await;
    assert!(sent.unwrap().success());
    let (code, errors) = watch.end().await;
    assert_eq!(code, Some(1));
    assert!(errors.contains(&format!("keeps watching {id}")), "{errors}");
    let read = ask(
        &play.relay.url,
        &format!("GET /watch/{id}"),
        &play.key,
        None,
    )
    .await;
    assert_eq!(read.json()["state"], "watching");
    play.end().await;
}

#[tokio::test]
async fn what_is_wrong_with_the_call_ends_with_2_and_a_relay_out_of_reach_with_1() {
    let play = Play::begin(&[]).await;
    let said = async |mut command: Command| {
        let output = command.output().await.unwrap();
        let (told, errors) = text(&output);
        assert_eq!(told, "");
        (output.status.code(), errors)
    };
    let mut no_key = play.command(&[]);
    no_key.env_remove("BASIQ_RELAY_KEY");
    let mut other_key = play.command(&[]);
    other_key.env("BASIQ_RELAY_KEY", "brk_of_another_relay");
    for (command, code, expected) in [
        (no_key, 2, "BASIQ_RELAY_KEY"),
        (other_key, 2, "does not know this API key"),
        (
            play.command(&["--key-file", "/nowhere/key"]),
            2,
            "/nowhere/key",
        ),
        (
            play.command(&["--key", "two words"]),
            2,
            "API key is needed",
        ),
        (
            play.command(&["--operation", "dance"]),
            2,
            "create, update, refresh",
        ),
        (
            play.command(&["--locale", "no tag"]),
            2,
            "`locale` must be a BCP 47",
        ),
        (play.command(&["--surplus"]), 2, "--surplus"),
    ] {
        let (exit, errors) = said(command).await;
        assert_eq!(exit, Some(code), "{errors}");
        assert!(errors.contains(expected), "{expected}: {errors}");
        assert!(!errors.contains(&play.key));
    }
    let watch = |arguments: &[&str]| {
        let mut command = binary();
        command
            .arg("watch")
            .args(arguments)
            .env("BASIQ_RELAY_KEY", &play.key);
        command
    };
    let hook = play.scene.receiver.url();
    for (arguments, code, expected) in [
        (["j-1", "--url", "not-a-url", "--json"], 2, "--url"),
        (["a/b", "--url", hook, "--json"], 2, "JOB_ID"),
        (
            ["j-1", "--url", hook, "--relay=ftp://x"],
            2,
            "https://relay.example",
        ),
        (
            ["j-1", "--url", hook, "--relay=http://127.0.0.1:9"],
            1,
            "does not answer",
        ),
    ] {
        let (exit, errors) = said(watch(&arguments)).await;
        assert_eq!(exit, Some(code), "{errors}");
        assert!(errors.contains(expected), "{expected}: {errors}");
    }
    play.end().await;
}
