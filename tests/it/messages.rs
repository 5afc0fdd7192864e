//! The messages for the person in each language: `GET /catalogue`, events, and their page of the documentation.

use std::time::Duration;

use basiq_client::normalise::Catalogue;
use relay_domain::Locale;
use serde_json::{Value, json};

use crate::support::{TestApp, TestDatabase, failure, job, process::RelaySetup, scene::ask};

const PAGE: &str = include_str!("../../docs/MESSAGES.md");
const ENGLISH: &str =
    include_str!("../../crates/basiq-client/src/normalise/catalogue/messages.en.toml");

/// Returns the rows of the page's table below this head, as cells.
fn rows(head: &str) -> Vec<Vec<&'static str>> {
    let rest = PAGE.split_once(head).unwrap().1;
    let rows = rest
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = |row: &'static str| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().trim_matches('`')).collect()
    };
    rows.map(cells).collect()
}

/// Returns the page's example of a file with messages.
fn example() -> &'static str {
    let after = PAGE.split_once("```toml\n").unwrap().1;
    after.split_once("```").unwrap().0
}

fn text_of(catalogue: &Value, code: &str) -> String {
    let items = catalogue["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["errorCode"] == code).unwrap();
    item["userMessage"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_catalogue_is_served_in_the_locale_that_fits_and_says_which() {
    let app = TestApp::new().await;
    for row in rows("| asked for | used |") {
        let [asked, used] = row[..] else {
            panic!("{row:?}")
        };
        let answer = app.get(&format!("/catalogue?locale={asked}")).await;
        assert_eq!(answer.status, 200, "{asked}");
        assert_eq!(answer.body["locale"], used, "{asked}");
        let same = app.get(&format!("/catalogue?locale={used}")).await;
        assert_eq!(answer.body, same.body, "{asked}");
    }
    let told = app.get("/catalogue?locale=zh-CN").await.body;
    assert_eq!(
        text_of(&told, "invalid-credentials"),
        "您的银行未接受这些登录信息。请核对后重新输入。"
    );
    let refused = app.get("/catalogue?locale=zh_CN").await;
    assert_eq!(refused.status, 422, "{}", refused.text);
}

#[tokio::test]
async fn an_event_speaks_the_language_its_watch_asked_for() {
    let mut app = TestApp::new().await;
    let refused = job(
        "j-1",
        app.now(),
        &[(
            "verify-credentials",
            "failed",
            failure("invalid-credentials"),
        )],
    );
    app.sandbox.seed_document("j-1", refused);
    let catalogue = Catalogue::builtin();
    for (index, (asked, used)) in [
        ("ar-EG", "ar"),
        ("vi-VN", "vi"),
        ("zh-SG", "zh-Hans"),
        ("zh-HK", "en"),
        ("fr", "en"),
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({ "jobId": "j-1", "callbackUrl": app.callback(&format!("/{asked}")), "locale": asked });
        let answer = app.post("/watch", &body).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        app.pass(Duration::from_secs(2), Duration::from_secs(1))
            .await;
        let told = app.told();
        let locale = Locale::parse(used).unwrap();
        let expected = catalogue.user_message("invalid-credentials", &locale);
        assert_eq!(told[index]["userMessage"], expected, "{asked}");
    }
}

#[tokio::test]
async fn a_file_replaces_texts_and_adds_locales() {
    let database = TestDatabase::new().await;
    let file = database.folder.path().join("messages.toml");
    std::fs::write(&file, example()).unwrap();
    let mut setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    let path = file.to_str().unwrap().to_owned();
    setup.environment = vec![("RELAY_MESSAGES_FILE", path)];
    let relay = setup.start().await;
    for (asked, used, code, begins) in [
        (
            "en-GB",
            "en",
            "too-many-requests",
            "We updated your information",
        ),
        (
            "en-AU",
            "en-AU",
            "job-timed-out",
            "Your bank is taking its time",
        ),
        (
            "en-AU",
            "en-AU",
            "too-many-requests",
            "We updated your information",
        ),
        ("en", "en", "job-timed-out", "Your bank took too long"),
        (
            "zh-HK",
            "zh-Hant",
            "job-timed-out",
            "您的銀行太久沒有回應。",
        ),
        (
            "zh-HK",
            "zh-Hant",
            "maintenance",
            "Your bank is doing maintenance.",
        ),
        (
            "zh-CN",
            "zh-Hans",
            "job-timed-out",
            "您的银行太久没有回应。",
        ),
        ("vi", "vi", "job-timed-out", "Ngân hàng của quý vị"),
    ] {
        let said = ask(
            &relay.url,
            &format!("GET /catalogue?locale={asked}"),
            "",
            None,
        )
        .await;
        let told = said.json();
        assert_eq!(told["locale"], used, "{asked}");
        let text = text_of(&told, code);
        assert!(text.starts_with(begins), "{asked} {code}: {text}");
    }
    assert_eq!(relay.terminate().await.0, Some(0));

    std::fs::write(&file, "[vi]\nsucces = 'Xong.'").unwrap();
    let output = setup.command().arg("serve").output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("RELAY_MESSAGES") && said.contains("`vi.succes`"),
        "{said}"
    );
}

#[test]
fn the_page_lists_every_message_and_every_locale() {
    let messages: toml::Table = toml::from_str(ENGLISH).unwrap();
    let listed = rows("| message | in English |");
    let listed: toml::Table = listed
        .into_iter()
        .map(|row| (row[0].to_owned(), row[1].into()))
        .collect();
    assert_eq!(listed, messages);
    for row in rows("| locale | language |") {
        assert_eq!(Catalogue::builtin().entries(Some(row[0])).0, row[0]);
    }
}
