//! `basiq-relay list`, `show`, `cancel`, `redeliver` and `answer` at a running relay.

use std::{process::Stdio, time::Duration};

use basiq_sandbox::{JobScript, SandboxOptions, ScriptChallenge, ScriptStep, StepEnd};
use relay_domain::clock::Clock;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use crate::support::{
    failure, job,
    on_terminal::OnTerminal,
    process::{RelayProcess, binary},
    scene::{Scene, ask, until},
};

/// An answer that nothing else contains.
const ANSWER: &str = "Zebra-Xylophone-8841";

/// A scene with a running relay, and a client's key.
struct Play {
    scene: Scene,
    relay: RelayProcess,
    key: String,
}

impl Play {
    async fn begin() -> Self {
        let mut scene = Scene::set(SandboxOptions::default()).await;
        scene.setup.environment.extend([
            ("RELAY_POLL_MIN_INTERVAL", "200ms".to_owned()),
            ("RELAY_DELIVERY_RETRY_SCHEDULE", "100ms".to_owned()),
        ]);
        let client = scene.setup.add_client("terminal").await;
        let key = client["apiKey"].as_str().unwrap().to_owned();
        let relay = scene.setup.start().await;
        Self { scene, relay, key }
    }

    /// Makes Basiq show a job with one step.
    fn has_job(&self, id: &str, status: &str, result: Value) {
        let steps = [("verify-credentials", status, result)];
        let document = job(id, Clock::system().now(), &steps);
        self.scene.sandbox.seed_document(id, document);
    }

    /// Registers a watch. Returns its id.
    async fn watch(&self, job_id: &str) -> String {
        let hook = format!("{}/hook", self.scene.receiver.url());
        let body = json!({ "jobId": job_id, "callbackUrl": hook }).to_string();
        let said = ask(&self.relay.url, "POST /watch", &self.key, Some(body)).await;
        assert_eq!(said.status, 202, "{}", said.text);
        said.json()["id"].as_str().unwrap().to_owned()
    }

    async fn read(&self, watch: &str) -> Value {
        let call = format!("GET /watch/{watch}");
        ask(&self.relay.url, &call, &self.key, None).await.json()
    }

    /// Waits until a watch is in this state, and its latest delivery in that one.
    async fn until(&self, watch: &str, state: &str, delivery: &str) {
        until(async || {
            let watch = self.read(watch).await;
            let last = watch["events"].as_array().unwrap().last().cloned();
            let last = last.unwrap_or_default()["deliveries"][0]["state"].clone();
            watch["state"] == state && (delivery.is_empty() || last == delivery)
        })
        .await;
    }

    /// Returns a command that has the relay's address and the key in its environment.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary();
        command
            .args(arguments)
            .env("BASIQ_RELAY_URL", &self.relay.url)
            .env("BASIQ_RELAY_KEY", &self.key)
            .env("TZ", "AEST-10")
            .env("CLICOLOR_FORCE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command, and returns its exit code and its output.
    async fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        self.run_with(arguments, "").await
    }

    /// Runs a command with this standard input.
    async fn run_with(&self, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
        let mut child = self.command(arguments).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that reads nothing may have ended.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (told, errors) = (text(output.stdout), text(output.stderr));
        assert!(!told.contains('\u{1b}') && !errors.contains('\u{1b}'));
        (output.status.code(), told, errors)
    }

    /// Runs a command that succeeds, and returns its output.
    async fn told(&self, arguments: &[&str]) -> String {
        let (code, told, errors) = self.run(arguments).await;
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{arguments:?}");
        told
    }

    /// Runs a command that succeeds with `--json`, and returns its document.
    async fn json(&self, arguments: &[&str]) -> Value {
        let told = self.told(&[arguments, &["--json"]].concat()).await;
        assert_eq!(told.lines().count(), 1, "{told}");
        serde_json::from_str(&told).unwrap()
    }

    async fn end(self) -> Vec<String> {
        let (code, log) = self.relay.terminate().await;
        assert_eq!(code, Some(0));
        log
    }
}

#[tokio::test]
async fn watches_are_listed_shown_and_cancelled() {
    let play = Play::begin().await;
    assert_eq!(play.told(&["list"]).await, "no such watches\n");
    play.has_job("j-1", "failed", failure("invalid-credentials"));
    play.has_job("j-2", "in-progress", Value::Null);
    let (settled, open) = (play.watch("j-1").await, play.watch("j-2").await);
    play.until(&settled, "settled", "delivered").await;
    until(async || play.read(&open).await["steps"][0]["status"] == "in-progress").await;

    let listed = play.told(&["list"]).await;
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines[0].starts_with("watch ") && lines[0].contains("created (+10:00)"));
    assert!(
        lines[1].starts_with(&format!("{open}  watching  20")),
        "{listed}"
    );
    assert!(
        lines[2].starts_with(&format!("{settled}  settled   20")),
        "{listed}"
    );
    assert!(
        lines[2].ends_with("  j-1  u-7   c-9         failed invalid-credentials"),
        "{listed}"
    );
    let one = play.told(&["list", "--limit", "1"]).await;
    assert!(
        one.contains(&open) && one.ends_with("there are more: --limit 2\n"),
        "{one}"
    );
    for filter in [["--state", "settled"], ["--job", "j-1"]] {
        let page = play.json(&["list", filter[0], filter[1]]).await;
        let ids = page["items"].as_array().unwrap().iter();
        let ids: Vec<_> = ids.map(|watch| &watch["id"]).collect();
        assert_eq!(ids, [&json!(settled)]);
        assert_eq!(page["nextCursor"], Value::Null);
        let context = &page["items"][0]["context"];
        assert_eq!(context["userId"], "u-7");
        assert_eq!(context["connectionId"], "c-9");
    }

    let shown = play.told(&["show", &settled]).await;
    for expected in [
        &format!("{settled}  settled\n"),
        "  job        j-1\n",
        "  user       u-7\n",
        "  connection c-9\n",
        " +10:00\n",
        "    verify-credentials        failed\n",
        "  failed  verify-credentials  invalid-credentials  → resubmit-credentials\n",
        "      Your bank did not accept these login details.",
        "      delivery delivered\n        1  20",
        "  204 after ",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let document = play.json(&["show", &settled]).await;
    assert_eq!(document["events"][0]["errorCode"], "invalid-credentials");

    let cancelled = format!("{open} is cancelled; nothing more is posted for it\n");
    assert_eq!(play.told(&["cancel", &open]).await, cancelled);
    assert_eq!(play.json(&["cancel", &open]).await["state"], "cancelled");
    assert_eq!(play.read(&open).await["state"], "cancelled");
    let before = format!("{settled} had ended before: settled\n");
    assert_eq!(play.told(&["cancel", &settled]).await, before);
    assert_eq!(play.read(&settled).await["state"], "settled");
    play.end().await;
}

#[tokio::test]
async fn dead_events_are_sent_once_more() {
    let play = Play::begin().await;
    play.scene.receiver.answer(4, 500);
    let mut watches = Vec::new();
    for id in ["j-1", "j-2"] {
        play.has_job(id, "success", Value::Null);
        watches.push(play.watch(id).await);
    }
    for watch in &watches {
        play.until(watch, "settled", "dead").await;
    }
    let remedy = format!("redeliver {} --relay {}", watches[0], play.relay.url);
    let shown = play.told(&["show", &watches[0]]).await;
    assert!(
        shown.ends_with(&format!("send it now: basiq-relay {remedy}\n")),
        "{shown}"
    );
    let listed = play.told(&["list"]).await;
    assert!(listed.contains("  success (dead)\n"), "{listed}");

    let arguments: Vec<_> = remedy.split(' ').collect();
    let told = play.told(&arguments).await;
    let event = play.read(&watches[0]).await["events"][0]["id"].clone();
    assert!(told.starts_with(&format!("{} is sent once more", event.as_str().unwrap())));
    assert!(
        told.contains(&format!("basiq-relay show {}", watches[0])),
        "{told}"
    );
    play.until(&watches[0], "settled", "delivered").await;

    let dead = ["redeliver", "--dead", "--since"];
    let tomorrow = play
        .told(&[&dead[..], &["2999-01-01T00:00:00Z"]].concat())
        .await;
    assert_eq!(tomorrow, "no event died since then; nothing is sent\n");
    let queued = play.json(&[&dead[..], &["2h"]].concat()).await;
    assert_eq!(queued, json!({ "queued": 1 }));
    play.until(&watches[1], "settled", "delivered").await;
    let shown = play.told(&["show", &watches[1]]).await;
    assert!(!shown.contains("send it now"), "{shown}");
    play.end().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_call_ends_with_2_and_what_is_not_there_with_1() {
    let play = Play::begin().await;
    play.has_job("j-1", "in-progress", Value::Null);
    let open = play.watch("j-1").await;
    let unknown = "wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q";
    let away = ["--relay", "http://127.0.0.1:9"];
    for (arguments, code, expected) in [
        (&["show", unknown][..], 1, "404"),
        (&["cancel", unknown], 1, "404"),
        (&["redeliver", unknown], 1, "404"),
        (&["answer", unknown, ANSWER], 1, "404"),
        (&["redeliver", &open], 1, "Nothing was told yet"),
        (&["answer", &open, ANSWER], 1, "The job asks nothing now"),
        (&["list", away[0], away[1]], 1, "does not answer"),
        (
            &["list", "--key", "brk_of_another_relay"],
            2,
            "does not know this API key",
        ),
        (&["list", "--key", "two words"], 2, "API key is needed"),
        (&["list", "--state", "over"], 2, "awaiting-user"),
        (&["list", "--job", "a/b"], 2, "--job"),
        (&["list", "--limit", "0"], 2, "--limit"),
        (&["show", "evt_1"], 2, "wch_"),
        (&["redeliver"], 2, "Usage"),
        (&["redeliver", "--dead"], 2, "--since"),
        (&["redeliver", "--since", "2h"], 2, "--dead"),
        (
            &["redeliver", &open, "--dead", "--since", "2h"],
            2,
            "cannot be used with",
        ),
        (&["redeliver", "--dead", "--since", "yesterday"], 2, "`2h`"),
    ] {
        let (exit, told, errors) = play.run(arguments).await;
        assert_eq!(
            (exit, told.as_str()),
            (Some(code), ""),
            "{arguments:?}: {errors}"
        );
        assert!(errors.contains(expected), "{expected}: {errors}");
        assert!(
            !errors.contains(&play.key) && !errors.contains(ANSWER),
            "{errors}"
        );
    }
    play.end().await;
}

/// Returns a job that asks for a code, which is [`ANSWER`].
fn asking() -> JobScript {
    let mut challenge = ScriptChallenge::token();
    challenge.answers = vec![vec![ANSWER.to_owned()]];
    let step = |title: &str, end| ScriptStep::new(title, Duration::ZERO, end);
    JobScript::new(vec![
        step("mfa-challenge", StepEnd::Asks(challenge)),
        step("retrieve-accounts", StepEnd::Succeeds),
    ])
}

#[tokio::test]
async fn a_challenge_is_shown_and_answered_and_the_answer_is_nowhere_to_be_read() {
    let play = Play::begin().await;
    let job_id = play.scene.sandbox.seed_job(asking());
    let hook = format!("{}/hook", play.scene.receiver.url());
    let mut watching = play.command(&["watch", &job_id, "--url", &hook]);
    let mut watching = watching.spawn().unwrap();
    let mut followed = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut printed = String::new();
    while !printed.contains("answer it: ") {
        printed = printed + &followed.next_line().await.unwrap().unwrap() + "\n";
    }
    let page = play.json(&["list", "--state", "awaiting-user"]).await;
    let watch = page["items"][0]["id"].as_str().unwrap().to_owned();
    let how = format!(
        "answer it: basiq-relay answer {watch} --relay {} -\n",
        play.relay.url
    );
    assert!(
        printed.contains("          the bank asks: We sent a code"),
        "{printed}"
    );
    assert!(printed.contains(&how), "{printed}");
    let shown = play.told(&["show", &watch]).await;
    assert!(shown.contains("  the bank asks: We sent a code"), "{shown}");
    assert!(shown.contains("    1. OTP Password\n"), "{shown}");
    assert!(shown.contains(&how), "{shown}");

    let too_long = ANSWER.repeat(20);
    for arguments in [
        &["answer", &watch, ANSWER, "--surplus"][..],
        &["answer", ANSWER, &watch],
        &["answer", &watch, "-", ANSWER],
        &["answer", &watch, &too_long],
        &["answer", &watch, &format!("--{ANSWER}")],
        &["answer", "--json", ANSWER],
    ] {
        let (code, told, errors) = play.run(arguments).await;
        assert_eq!(code, Some(2), "{arguments:?}: {errors}");
        printed = printed + &told + &errors;
    }
    let (code, _, errors) = play.run_with(&["answer", &watch, "-"], "\n").await;
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("1 to 10 texts"), "{errors}");
    assert_eq!(play.read(&watch).await["state"], "awaiting-user");

    let line = format!("{ANSWER}\n");
    let answer = ["answer", &watch, "-", "--json"];
    let (code, told, errors) = play.run_with(&answer, &line).await;
    assert_eq!(code, Some(0), "{errors}");
    let accepted: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(accepted, json!({ "watchId": watch, "accepted": true }));
    printed = printed + &told + &errors;
    while let Some(line) = followed.next_line().await.unwrap() {
        printed = printed + &line + "\n";
    }
    assert_eq!(watching.wait().await.unwrap().code(), Some(0));

    let other = play.watch(&play.scene.sandbox.seed_job(asking())).await;
    play.until(&other, "awaiting-user", "").await;
    let wrong = format!("{ANSWER}-not");
    let (code, told, errors) = play.run(&["answer", &other, &wrong]).await;
    assert_eq!((code, told.as_str()), (Some(1), ""), "{errors}");
    assert!(errors.contains("It was wrong or too late"), "{errors}");
    printed += &errors;
    assert!(!printed.contains(ANSWER), "{printed}");
    assert_eq!(play.scene.stored_with(ANSWER).await, [""; 0]);
    let log = play.end().await.join("\n");
    assert!(log.contains("an answer was passed on") && !log.contains(ANSWER));
}

#[tokio::test]
async fn a_terminal_shows_no_answer_and_lines_that_fit() {
    let play = Play::begin().await;
    let watch = play.watch(&play.scene.sandbox.seed_job(asking())).await;
    play.until(&watch, "awaiting-user", "").await;
    let (code, lines) = OnTerminal::start(&play.command(&["list"])).end().await;
    assert_eq!(code, Some(0), "{lines:?}");
    assert!(
        lines.iter().all(|line| line.chars().count() <= 80),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("    ")),
        "{lines:?}"
    );

    let mut answering = OnTerminal::start(&play.command(&["answer", &watch, "-"]));
    answering.types(ANSWER, "OTP Password (not shown): ").await;
    let (code, lines) = answering.end().await;
    let seen = lines.join("\n");
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("Basiq took the answer"), "{seen}");
    assert!(!seen.contains(ANSWER), "{seen}");
    play.end().await;
}

#[tokio::test]
async fn a_client_is_revoked_on_a_terminal_only_after_a_yes() {
    let play = Play::begin().await;
    let revoke = |more: &[&str]| {
        let mut command = play.scene.setup.command();
        command.args(["client", "revoke", "terminal"]).args(more);
        OnTerminal::start(&command)
    };
    let works = async || {
        ask(&play.relay.url, "GET /watch", &play.key, None)
            .await
            .status
    };
    for reply in ["n", ""] {
        let mut asked = revoke(&[]);
        asked.types(reply, "Revoke `terminal`?").await;
        let (code, lines) = asked.end().await;
        assert_eq!(code, Some(1), "{lines:?}");
        assert!(
            lines.join("\n").contains("`terminal` was not revoked"),
            "{lines:?}"
        );
        assert_eq!(works().await, 200);
    }
    let mut asked = revoke(&[]);
    asked.types("y", "Revoke `terminal`?").await;
    let (code, lines) = asked.end().await;
    assert_eq!(code, Some(0), "{lines:?}");
    until(async || works().await == 401).await;

    play.scene.setup.add_client("other").await;
    let mut command = play.scene.setup.command();
    command.args(["client", "revoke", "other", "--yes"]);
    let (code, lines) = OnTerminal::start(&command).end().await;
    assert_eq!(code, Some(0), "{lines:?}");
    assert!(!lines.join("\n").contains('?'), "{lines:?}");
    play.end().await;
}
