//! Erasure: nothing that names the person stays, in memory, on disk or in the database.

use std::time::Duration;

use axum::http::Method;
use basiq_sandbox::{JobScript, ScriptStep, StepEnd};
use relay_domain::{SigningSecret, signing};
use serde_json::{Value, json};

use crate::support::{database::holds, live::Live, process::binary};

const TOKEN: &str = "the-operator's-own-token";
const SECOND: Duration = Duration::from_secs(1);

/// A person whose ids are found nowhere by chance.
struct Person {
    user: &'static str,
    connection: &'static str,
}

const ERASED: Person = Person {
    user: "user-qj7wz88-erased",
    connection: "connection-kd92pt41-erased",
};
const OTHER: Person = Person {
    user: "user-vx83hq-other",
    connection: "connection-mw55rr-other",
};

impl Person {
    /// Starts a job of the person.
    fn start(&self, live: &Live, millis: u64) -> String {
        let takes = Duration::from_millis(millis);
        let step = ScriptStep::new("verify-credentials", takes, StepEnd::Succeeds);
        let mut script = JobScript::new(vec![step]);
        script.user_id = Some(self.user.to_owned());
        script.connection_id = Some(self.connection.to_owned());
        live.sandbox.seed_job(script)
    }
}

/// Starts a relay that takes Basiq's webhooks, and passes them on to a callback that accepts none.
async fn start(secret: &SigningSecret) -> Live {
    let written = secret.expose().to_owned();
    let unreachable = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let forward = format!("http://{}/basiq", unreachable.local_addr().unwrap());
    drop(unreachable);
    Live::start(|settings| {
        settings.server.admin_token = Some(TOKEN.to_owned().into());
        settings.basiq.webhook_secret = Some(written.into());
        settings.subscriptions.forward_url = Some(forward.into());
    })
    .await
}

async fn erase(live: &Live, body: Value) -> (u16, Value) {
    let call = live.bare(Method::POST, "admin/erase").bearer_auth(TOKEN);
    let answer = call.json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn subscribe(live: &Live, person: &Person) {
    let callback = format!("{}/hook", live.receiver.url());
    let body = json!({ "userId": person.user, "callbackUrl": callback });
    let call = live.call(Method::POST, "subscriptions").json(&body);
    assert_eq!(call.send().await.unwrap().status(), 201);
}

/// Sends a webhook: a connection of the person needs new credentials.
async fn send_webhook(live: &Live, person: &Person, secret: &SigningSecret) {
    let (user, connection) = (person.user, person.connection);
    let entity = format!("https://b.example/users/{user}/connections/{connection}");
    // Basiq's own ids of events and messages name nobody
    let event = format!("event-{}", user.len());
    let links = json!({ "event": "https://b.example/events/1", "eventEntity": entity });
    let body = json!({ "eventTypeId": "connection.invalidated", "eventId": event, "links": links });
    let body = body.to_string();
    let signed = signing::sign(&event, live.now(), &body, &[secret]).unwrap();
    let mut call = live.bare(Method::POST, "basiq/webhook").body(body);
    for (name, value) in signed.entries() {
        call = call.header(name, value);
    }
    assert_eq!(call.send().await.unwrap().status(), 204);
}

/// Returns where one of these texts is stored, besides the subjects of erasures in the audit log.
async fn places_of(live: &Live, texts: &[&str]) -> Vec<String> {
    let stored = live.database.stored().await.into_iter();
    let subjects = [ERASED.user, ERASED.connection]
        .map(|id| (format!("user:{id}"), format!("connection:{id}")));
    let subjects = subjects
        .iter()
        .flat_map(|(user, connection)| [user, connection]);
    let stored: Vec<_> = stored
        .map(|(place, bytes)| {
            (
                place,
                subjects
                    .clone()
                    .fold(bytes, |bytes, subject| without(&bytes, subject)),
            )
        })
        .collect();
    let found = stored.iter().flat_map(|(place, bytes)| {
        let held = texts.iter().filter(|text| holds(bytes, text));
        held.map(move |text| format!("{text} in {place}"))
    });
    found.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_names_the_person_stays_and_others_are_told_on() {
    let secret = SigningSecret::generate();
    let live = start(&secret).await;
    let mut jobs = Vec::new();
    for _ in 0..20 {
        let job = ERASED.start(&live, 200);
        live.register(&job).await;
        jobs.push(job);
    }
    live.until(30 * SECOND, || live.receiver.received().len() >= 20)
        .await;
    // the first list finds these, and one of them runs on
    jobs.push(ERASED.start(&live, 1_500));
    jobs.push(ERASED.start(&live, 60_000));
    let long = OTHER.start(&live, 15_000);
    live.register(&long).await;
    for person in [&ERASED, &OTHER] {
        subscribe(&live, person).await;
    }
    for person in [&ERASED, &OTHER] {
        send_webhook(&live, person, &secret).await;
    }
    // a notice for each of them, and the job that the list found
    live.until(30 * SECOND, || live.receiver.received().len() >= 23)
        .await;
    let ids: Vec<&str> = jobs.iter().map(String::as_str).collect();
    let ids = [&ids[..], &[ERASED.user, ERASED.connection]].concat();
    assert!(!places_of(&live, &ids).await.is_empty(), "the search works");

    let (status, erased) = erase(&live, json!({ "userId": ERASED.user })).await;
    assert_eq!(status, 200);
    let expected = json!(
        { "watches": 22, "subscriptions": 1, "events": 21, "notices": 1, "messages": 1 });
    assert_eq!(erased, expected);
    assert_eq!(places_of(&live, &ids).await, Vec::<String>::new());

    let told_before = live.receiver.received().len();
    live.until(30 * SECOND, || {
        let received = live.receiver.received();
        received
            .iter()
            .any(|told| told.body["jobId"] == long.as_str())
    })
    .await;
    assert_eq!(live.receiver.received().len(), told_before + 1);
    let (status, again) = erase(&live, json!({ "userId": ERASED.user })).await;
    assert_eq!((status, &again["watches"]), (200, &json!(0)));
    assert_eq!(places_of(&live, &ids).await, Vec::<String>::new());
    let call = live.bare(Method::GET, "admin/audit?act=erased");
    let acts = call.bearer_auth(TOKEN).send().await.unwrap();
    let acts: Value = acts.json().await.unwrap();
    let acts = acts["items"].as_array().unwrap();
    assert_eq!(acts.len(), 2);
    for act in acts {
        assert_eq!(act["operator"], "admin");
        assert_eq!(act["subject"], format!("user:{}", ERASED.user));
    }
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_erases_beside_a_running_relay() {
    let live = start(&SigningSecret::generate()).await;
    for person in [&ERASED, &OTHER] {
        let job = person.start(&live, 100);
        live.register(&job).await;
    }
    live.until(10 * SECOND, || live.receiver.received().len() == 2)
        .await;
    let run = async |arguments: &[&str]| {
        let mut command = binary();
        command
            .current_dir(live.database.folder.path())
            .env("RELAY_DATABASE_URL", live.database.setting())
            .arg("erase")
            .args(arguments);
        let done = command.output().await.unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = run(&["--connection", ERASED.connection, "--json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let erased: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&erased["watches"], &erased["events"]),
        (&json!(1), &json!(1))
    );
    let (code, said) = run(&["--connection", ERASED.connection]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nobody with this id is known"), "{said}");
    let mut elsewhere = binary();
    elsewhere
        .current_dir(live.database.folder.path())
        .env("RELAY_DATABASE_URL", "sqlite://not-there.db")
        .args(["erase", "--user", ERASED.user]);
    let done = elsewhere.output().await.unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(
        String::from_utf8(done.stderr)
            .unwrap()
            .contains("there is no database file")
    );
    for wrong in [
        &["--user", "a b"][..],
        &["--user", "a", "--connection", "b"],
        &["--json"],
        &[],
    ] {
        let (code, said) = run(wrong).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("error: "), "{wrong:?}: {said}");
    }
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_erased_is_told() {
    let live = start(&SigningSecret::generate()).await;
    for (body, field) in [
        (json!({}), "userId"),
        (json!({ "userId": null }), "userId"),
        (
            json!({ "userId": "a", "connectionId": "b" }),
            "connectionId",
        ),
        (json!({ "userId": 7 }), "userId"),
        (json!({ "userId": "a b" }), "userId"),
        (json!({ "connectionId": "x".repeat(129) }), "connectionId"),
        (json!({ "userId": "a", "since": 1 }), "since"),
    ] {
        let (status, answer) = erase(&live, body.clone()).await;
        assert_eq!(status, 422, "{body}");
        let named = &answer["errors"][0]["pointer"];
        assert_eq!(named, &format!("/{field}"), "{answer}");
    }
    live.stop().await;
}

/// Returns the bytes with each occurrence of the text blotted out.
fn without(bytes: &[u8], text: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let places: Vec<_> = bytes
        .windows(text.len())
        .enumerate()
        .filter(|(_, part)| *part == text.as_bytes())
        .map(|(place, _)| place)
        .collect();
    for place in places {
        bytes[place..place + text.len()].fill(b'#');
    }
    bytes
}
