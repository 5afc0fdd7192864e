//! Who may log in, and how long a session lasts.

use std::time::{Duration, Instant};

use relay_store::AuditQuery;

use crate::{
    console::{ALICE, BOB, Browser, TOKEN, app, operators},
    support::TestApp,
};

#[tokio::test]
async fn without_an_admin_token_there_is_no_console() {
    let app = TestApp::new().await;
    let browser = Browser::new(&app);
    for path in [
        "/console",
        "/console/login",
        "/console/watches",
        "/console/nothing",
        "/console/assets/1/console.css",
    ] {
        assert_eq!(browser.get(path).await.status, 404, "{path}");
    }
    assert_eq!(browser.log_in("", &[]).await.status, 404);
    for path in ["/console", "/console/login"] {
        let page = browser.get(path).await.text;
        assert!(page.contains("set RELAY_ADMIN_TOKEN, or"), "{path}: {page}");
    }
}

#[tokio::test]
async fn the_token_opens_a_session_and_another_text_does_not() {
    let app = app().await;
    let mut browser = Browser::new(&app);
    let first = browser.get("/console/watches?state=delayed").await;
    assert_eq!(first.status, 303);
    let to = first.header("location");
    assert_eq!(
        to,
        "/console/login?next=%2Fconsole%2Fwatches%3Fstate%3Ddelayed"
    );
    let page = browser.get(to).await.text;
    assert!(
        page.contains("value=\"/console/watches?state=delayed\""),
        "{page}"
    );
    for wrong in ["", "the operator's", "the operator's token's"] {
        let refused = browser.log_in(wrong, &[]).await;
        assert_eq!(refused.status, 403, "{wrong}");
        assert_eq!(refused.header("set-cookie"), "");
    }
    let fields = [("token", TOKEN), ("next", "/console/hosts")];
    let let_in = browser.send("/console/login", &fields, &[]).await;
    assert_eq!(
        (let_in.status, let_in.header("location")),
        (303, "/console/hosts")
    );
    let cookie = let_in.header("set-cookie").to_owned();
    for part in [
        "; HttpOnly",
        "; SameSite=Strict",
        "; Path=/console;",
        "; Max-Age=28800;",
    ] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(
        !cookie.contains("Secure") && !cookie.contains("operator"),
        "{cookie}"
    );
    browser.cookie = cookie.split(';').next().unwrap().to_owned();
    assert_eq!(browser.get("/console").await.status, 200);
    assert_eq!(browser.get("/console/login").await.status, 303);
    let out = browser.post("/console/logout", &[]).await;
    assert!(out.header("set-cookie").contains("Max-Age=0"));
}

#[tokio::test]
async fn a_page_of_another_site_cannot_log_a_browser_in() {
    let app = app().await;
    let browser = Browser::new(&app);
    let host = ("host", "relay.example");
    for origin in ["https://evil.example", "https://relay.example:1", "null"] {
        let refused = browser.log_in(TOKEN, &[host, ("origin", origin)]).await;
        assert_eq!(refused.status, 403, "{origin}");
        assert_eq!(refused.header("set-cookie"), "");
        assert!(refused.text.contains("by another site"), "{}", refused.text);
    }
    let own = [host, ("origin", "https://relay.example")];
    assert_eq!(browser.log_in(TOKEN, &own).await.status, 303);
    let page = browser.get("/console/login").await;
    assert_eq!(page.header("referrer-policy"), "same-origin");
}

#[tokio::test]
async fn a_session_opened_by_https_is_sent_by_https_only() {
    let app = app().await;
    let browser = Browser::new(&app);
    let let_in = browser
        .log_in(TOKEN, &[("x-forwarded-proto", "https")])
        .await;
    assert!(let_in.header("set-cookie").ends_with("; Secure"));
}

#[tokio::test]
async fn a_session_of_a_relay_with_an_https_address_is_sent_by_https_only() {
    for (url, is_secure) in [
        ("https://relay.example/base", true),
        ("http://relay.example", false),
    ] {
        let builder = TestApp::builder().settings(|settings| {
            settings.server.admin_token = Some(TOKEN.to_owned().into());
            settings.server.public_url = Some(url.parse().unwrap());
        });
        let app = builder.build().await;
        let let_in = Browser::new(&app).log_in(TOKEN, &[]).await;
        let cookie = let_in.header("set-cookie");
        assert_eq!(cookie.ends_with("; Secure"), is_secure, "{url}: {cookie}");
    }
}

#[tokio::test]
async fn guesses_are_slowed_and_the_right_token_is_let_in_all_the_same() {
    let app = app().await;
    let browser = Browser::new(&app);
    let took = async |token: &str, status: u16| {
        let began = Instant::now();
        assert_eq!(browser.log_in(token, &[]).await.status, status);
        began.elapsed().as_secs()
    };
    for _ in 0..3 {
        assert_eq!(took("a guess", 403).await, 0);
    }
    assert!(took("a guess", 403).await >= 1);
    assert!(took(TOKEN, 303).await >= 2);
    assert_eq!(took("a guess", 403).await, 0);
}

#[tokio::test]
async fn failures_of_long_ago_do_not_slow_a_log_in() {
    let app = app().await;
    let browser = Browser::new(&app);
    for _ in 0..3 {
        assert_eq!(browser.log_in("a guess", &[]).await.status, 403);
    }
    app.clock.advance(Duration::from_mins(15));
    let began = Instant::now();
    assert_eq!(browser.log_in(TOKEN, &[]).await.status, 303);
    assert!(began.elapsed() < Duration::from_millis(900));
}

#[tokio::test]
async fn a_session_ends_after_eight_hours() {
    let app = app().await;
    let browser = Browser::logged_in(&app).await;
    app.clock
        .advance(Duration::from_hours(8) - Duration::from_mins(1));
    assert_eq!(browser.get("/console").await.status, 200);
    app.clock.advance(Duration::from_mins(2));
    assert_eq!(browser.get("/console").await.status, 303);
    // A request for a live part must lead the whole page to the log-in.
    let live = browser
        .get_with("/console", &[("hx-request", "true")])
        .await;
    assert_eq!(
        (live.status, live.header("hx-redirect")),
        (200, "/console/login")
    );
}

#[tokio::test]
async fn a_session_ends_when_the_token_changes_and_holds_on_every_relay_that_has_it() {
    let app = app().await;
    let browser = Browser::logged_in(&app).await;
    let mut settings = app.settings.clone();
    app.secrets.replace(&settings).await.unwrap();
    assert_eq!(browser.get("/console").await.status, 200);
    settings.server.admin_token = Some("another".to_owned().into());
    app.secrets.replace(&settings).await.unwrap();
    assert_eq!(browser.get("/console").await.status, 303);
    settings.server.admin_token = None;
    app.secrets.replace(&settings).await.unwrap();
    assert_eq!(browser.get("/console").await.status, 404);

    let elsewhere = super::app().await;
    elsewhere.clock.advance(Duration::from_secs(1));
    let mut there = Browser::new(&elsewhere);
    there.cookie = browser.cookie;
    assert_eq!(there.get("/console").await.status, 200);
}

#[tokio::test]
async fn each_operator_has_a_session_of_its_own_that_ends_with_its_token() {
    let app = operators().await;
    let (alice, bob) = (
        Browser::logged_in_with(&app, ALICE).await,
        Browser::logged_in_with(&app, BOB).await,
    );
    for (browser, name) in [(&alice, "alice"), (&bob, "bob.b")] {
        let page = browser.get("/console").await.text;
        assert!(
            page.contains(&format!("id=\"operator\">{name}</span>")),
            "{page}"
        );
    }
    let mut settings = app.settings.clone();
    settings
        .server
        .operators
        .retain(|one| one.name.as_str() != "alice");
    app.secrets.replace(&settings).await.unwrap();
    assert_eq!(alice.get("/console").await.status, 303);
    assert_eq!(bob.get("/console").await.status, 200);
    let refused = Browser::new(&app).log_in(ALICE, &[]).await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn log_ins_and_log_outs_are_in_the_audit_log_and_failures_are_as_well() {
    let app = operators().await;
    app.clock.advance(Duration::from_secs(1));
    let browser = Browser::logged_in_with(&app, ALICE).await;
    for _ in 0..2 {
        app.clock.advance(Duration::from_secs(1));
        assert_eq!(browser.log_in("a guess", &[]).await.status, 403);
    }
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(browser.post("/console/logout", &[]).await.status, 303);
    let query = AuditQuery {
        limit: 10,
        ..AuditQuery::default()
    };
    let entries = app.store.list_acts(&query).await.unwrap();
    let acts = entries
        .iter()
        .map(|entry| (entry.operator.as_str(), entry.act.as_str()));
    let expected = [
        ("alice", "logged-out"),
        ("unknown", "log-in-failed"),
        ("unknown", "log-in-failed"),
        ("alice", "logged-in"),
        ("tester", "client-added"),
    ];
    assert_eq!(acts.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_log_in_that_cannot_be_recorded_is_refused() {
    let app = app().await;
    let browser = Browser::new(&app);
    app.store.close().await;
    let refused = browser.log_in(TOKEN, &[]).await;
    assert_eq!((refused.status, refused.header("set-cookie")), (503, ""));
}

#[tokio::test]
async fn a_link_from_another_site_is_followed_once_more_by_the_browser_itself() {
    let app = app().await;
    let browser = Browser::new(&app);
    let path = "/console/watches?state=dead";
    let answer = browser
        .get_with(path, &[("sec-fetch-site", "cross-site")])
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("refresh"), format!("0; url={path}"));
    let answer = browser
        .get_with(path, &[("sec-fetch-site", "same-origin")])
        .await;
    assert_eq!(answer.status, 303);
}
