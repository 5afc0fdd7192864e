//! The operator's actions, and attempts of others to do the same.

use relay_domain::signing::{self, SignatureHeaders};

use crate::{
    console::{Browser, app, full, subscribe},
    support::TestApp,
};

/// All forms that change something.
const FORMS: &[&str] = &[
    "/console/logout",
    "/console/watches/{watch}/redeliver",
    "/console/watches/{watch}/cancel",
    "/console/subscriptions/{subscription}/end",
    "/console/deliveries/redeliver",
    "/console/deliveries/{delivery}/redeliver",
    "/console/hosts/pause",
    "/console/hosts/resume",
    "/console/clients",
    "/console/clients/test/rotate-secret",
    "/console/clients/test/retire-secret",
    "/console/clients/test/rotate-key",
    "/console/clients/test/revoke",
    "/console/clients/test/test-callback",
];

#[tokio::test]
async fn a_form_of_another_site_or_session_changes_nothing() {
    let (app, ids) = full().await;
    let browser = Browser::logged_in(&app).await;
    let other = Browser::logged_in(&app).await.form_token().await;
    let own = browser.form_token().await;
    assert_ne!(own, other);
    let page = browser.get("/console/deliveries").await.text;
    let delivery = between(&page, "id=\"dlv_", "\"");
    let subscription = subscribe(&app, "u-1").await;
    let fields = |token| {
        [
            ("form_token", token),
            ("name", "mine"),
            ("host", "h.example"),
        ]
    };
    for form in FORMS {
        let path = form
            .replace("{watch}", &ids[0])
            .replace("{subscription}", &subscription)
            .replace("{delivery}", &format!("dlv_{delivery}"));
        for token in ["", "x", &other] {
            let refused = browser.send(&path, &fields(token), &[]).await;
            assert_eq!(refused.status, 403, "{path}");
        }
        for site in ["cross-site", "same-site"] {
            let from = [("sec-fetch-site", site)];
            let refused = browser.send(&path, &fields(&own), &from).await;
            assert_eq!(refused.status, 403, "{path}");
        }
        for origin in ["https://evil.example", "http://127.0.0.1:1", "null"] {
            let from = [("origin", origin), ("host", "127.0.0.1:8080")];
            let refused = browser.send(&path, &fields(&own), &from).await;
            assert_eq!(refused.status, 403, "{path}: {origin}");
        }
        let from = [("content-type", "text/plain")];
        let refused = browser.send(&path, &fields(&own), &from).await;
        assert!(
            matches!(refused.status, 403 | 415),
            "{path}: {}",
            refused.status
        );
        let nobody = Browser::new(&app);
        let refused = nobody.send(&path, &fields(&own), &[]).await;
        assert_eq!(
            (refused.status, refused.header("location")),
            (303, "/console/login")
        );
    }
    assert_eq!(app.story(&ids[0]).await["state"], "watching");
    let path = format!("/subscriptions/{subscription}");
    assert_eq!(app.get(&path).await.body["state"], "active");
    assert_eq!(app.store.list_clients().await.unwrap().len(), 1);
    let after = browser.get("/console/deliveries").await.text;
    assert!(after.contains(&delivery), "the delivery is dead as before");
}

pub(super) fn between(text: &str, before: &str, after: &str) -> String {
    let (_, rest) = text.split_once(before).unwrap();
    rest.split_once(after).unwrap().0.to_owned()
}

/// Sends a form and follows the redirect. Returns the redirect's target and the page.
pub(super) async fn follow(
    browser: &Browser<'_>,
    path: &str,
    fields: &[(&str, &str)],
) -> (String, String) {
    let answer = browser.post(path, fields).await;
    assert_eq!(answer.status, 303, "{path}: {}", answer.text);
    let to = answer.header("location").to_owned();
    let page = browser.get(&to).await;
    assert_eq!(page.status, 200);
    (to, page.text)
}

#[tokio::test]
async fn a_watch_is_cancelled_and_an_event_delivered_once_more() {
    let (mut app, ids) = full().await;
    let (running, failed) = (ids[0].clone(), ids[4].clone());
    {
        let browser = Browser::logged_in(&app).await;
        let cancel = format!("/console/watches/{running}/cancel");
        let (_, page) = follow(&browser, &cancel, &[]).await;
        assert!(page.contains("Cancelled: nothing more is posted"), "{page}");
        assert_eq!(app.story(&running).await["state"], "cancelled");
        let (_, page) = follow(
            &browser,
            &format!("/console/watches/{running}/redeliver"),
            &[],
        )
        .await;
        assert!(page.contains("notice warn"), "{page}");
        let (_, page) = follow(
            &browser,
            &format!("/console/watches/{failed}/redeliver"),
            &[],
        )
        .await;
        assert!(page.contains("notice good"), "{page}");
    }
    app.receiver.accept_all();
    app.skip(std::time::Duration::from_mins(5)).await;
    let story = app.story(&failed).await;
    let delivery = &story["events"][0]["deliveries"][0];
    assert_eq!(delivery["state"], "delivered", "{story}");
}

#[tokio::test]
async fn the_dead_are_queued_again_one_by_one_or_all() {
    let (app, _) = full().await;
    // attempts end a few milliseconds after they began, while this clock stands still
    app.clock.advance(std::time::Duration::from_secs(1));
    let browser = Browser::logged_in(&app).await;
    let page = browser.get("/console/deliveries").await.text;
    let dead = page.matches("id=\"dlv_").count();
    assert_eq!(dead, 3);
    let one = format!("dlv_{}", between(&page, "id=\"dlv_", "\""));
    let path = format!("/console/deliveries/{one}/redeliver");
    let (to, page) = follow(&browser, &path, &[("state", "dead")]).await;
    assert_eq!(to, "/console/deliveries?state=dead&done=queued");
    assert_eq!(page.matches("id=\"dlv_").count(), dead - 1);
    let asks = browser.get("/console/deliveries/redeliver").await.text;
    assert!(asks.contains("Send 2 deliveries again?"), "{asks}");
    let (to, page) = follow(&browser, "/console/deliveries/redeliver", &fields(&asks)).await;
    let all = format!(
        "/console/deliveries?state=dead&done=queued-many&count={}",
        dead - 1
    );
    assert_eq!(to, all);
    assert_eq!(page.matches("id=\"dlv_").count(), 0);
    let nothing = browser.get("/console/deliveries/redeliver").await.text;
    assert!(nothing.contains("Nothing to send again"), "{nothing}");
    // A request of htmx gets only the live part and the result of the action.
    let live = browser.get_with(&to, &[("hx-request", "true")]).await.text;
    assert!(live.trim_start().starts_with("<div id=\"live\"") && !live.contains("<html"));
    assert!(live.contains("hx-swap-oob"), "{live}");
}

/// Returns the hidden fields of the form in the main part of a page, without the token of the session.
pub(super) fn fields(page: &str) -> Vec<(&str, &str)> {
    let (_, main) = page.split_once("<main").unwrap();
    let hidden = main.split("<input type=\"hidden\" name=\"").skip(1);
    let fields = hidden.map(|field| {
        let (name, rest) = field.split_once("\" value=\"").unwrap();
        (name, rest.split_once('"').unwrap().0)
    });
    fields.filter(|(name, _)| *name != "form_token").collect()
}

#[tokio::test]
async fn clients_are_added_rotated_and_revoked_and_their_secrets_shown_once() {
    let app = app().await;
    let browser = Browser::logged_in(&app).await;
    for (name, why) in [
        ("test", "choose another"),
        ("a b", "A name has"),
        ("", "A name has"),
    ] {
        let refused = browser.post("/console/clients", &[("name", name)]).await;
        assert_eq!(refused.status, 422);
        assert!(refused.text.contains(why), "{}", refused.text);
    }
    let added = browser.post("/console/clients", &[("name", "shop")]).await;
    assert_eq!(
        (added.status, added.header("cache-control")),
        (200, "no-store")
    );
    let key = between(&added.text, "<code id=\"key\">", "</code>");
    assert!(key.starts_with("brk_"));
    let works = async |app: &TestApp, key: &str| {
        let mut who = app.client.clone();
        who.key = relay_domain::ApiKey::presented(key);
        let list = app.call_as(&who, axum::http::Method::GET, "/watch", None);
        list.await.status
    };
    assert_eq!(works(&app, &key).await, 200);
    let rotated = browser.post("/console/clients/shop/rotate-key", &[]).await;
    let renewed = between(&rotated.text, "<code id=\"key\">", "</code>");
    assert_eq!(
        (works(&app, &key).await, works(&app, &renewed).await),
        (401, 200)
    );
    let rotated = browser
        .post("/console/clients/shop/rotate-secret", &[])
        .await;
    assert!(between(&rotated.text, "<code id=\"secret\">", "</code>").starts_with("whsec_"));
    app.add_callback_header("shop", "X-Key").await;
    let list = browser.get("/console/clients").await.text;
    assert!(list.contains("two secrets sign") && !list.contains("whsec_"));
    assert!(list.contains("callbacks get: headers x-key") && !list.contains("header-word"));
    for done in ["retired", "not-rotated"] {
        let (to, _) = follow(&browser, "/console/clients/shop/retire-secret", &[]).await;
        assert_eq!(to, format!("/console/clients?done={done}"));
    }
    let (_, page) = follow(&browser, "/console/clients/shop/revoke", &[]).await;
    assert!(page.contains("revoked"));
    assert_eq!(works(&app, &renewed).await, 401);
    let gone = browser.post("/console/clients/shop/revoke", &[]).await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn a_callback_is_tested_by_its_form() {
    let app = app().await;
    let browser = Browser::logged_in(&app).await;
    let page = browser.get("/console/clients").await.text;
    assert!(
        page.contains("/console/clients/test/test-callback"),
        "{page}"
    );
    let hook = app.callback("/hook");
    let form = "/console/clients/test/test-callback";
    let tested = browser.post(form, &[("url", &hook)]).await;
    assert_eq!(tested.status, 200);
    assert!(
        tested.text.contains("accepted, HTTP 204"),
        "{}",
        tested.text
    );
    let received = app.receiver.received();
    assert_eq!(received[0].body["type"], "relay.test");
    assert!(
        SignatureHeaders::read(&received[0].headers).is_ok_and(|signed| {
            signing::verify(&signed, &received[0].raw, &app.client.secret, app.now()).is_ok()
        })
    );
    app.receiver.answer(1, 404);
    let tested = browser.post(form, &[("url", &hook)]).await.text;
    assert!(tested.contains("refused, HTTP 404"), "{tested}");
    assert!(tested.contains("Check the path"), "{tested}");
    let odd = [("url", "https://<b>\"10.0.0.1/")];
    let refused = browser.post(form, &odd).await;
    assert_eq!(refused.status, 422);
    assert!(!refused.text.contains("<b>"), "{}", refused.text);
    let unknown = "/console/clients/nobody/test-callback";
    assert_eq!(browser.post(unknown, &[("url", &hook)]).await.status, 404);
    let (mut accepted, mut answer) = (2, browser.post(form, &[("url", &hook)]).await);
    while answer.status == 200 {
        accepted += 1;
        answer = browser.post(form, &[("url", &hook)]).await;
    }
    assert_eq!(answer.status, 429, "{}", answer.text);
    assert!(accepted >= 60, "{accepted}");
    assert_eq!(app.receiver.received().len(), accepted);
}

#[tokio::test]
async fn a_test_of_a_callback_is_recorded_before_it_is_made() {
    let app = app().await;
    let browser = Browser::logged_in(&app).await;
    let form = "/console/clients/test/test-callback";
    app.clock.advance(std::time::Duration::from_secs(1));
    let hook = app.callback("/hook?token=qv72");
    assert_eq!(browser.post(form, &[("url", &hook)]).await.status, 200);
    let refused = [("url", "ftp://app.example/")];
    assert_eq!(browser.post(form, &refused).await.status, 422);
    let page = browser.get("/console/audit?act=callback-tested").await.text;
    assert_eq!(page.matches("data-label=\"Act\"").count(), 1, "{page}");
    let subject = format!("test {}?…", app.callback("/hook"));
    assert!(page.contains(&subject), "{page}");
    assert!(!page.contains("qv72"), "{page}");
    let token = browser.form_token().await;
    let before = app.receiver.received().len();
    let gone = "ALTER TABLE audit RENAME TO gone";
    app.database().define(gone).await;
    let fields = [("url", hook.as_str()), ("form_token", &token)];
    let failed = browser.send(form, &fields, &[]).await;
    assert!(failed.status >= 500, "{}", failed.status);
    assert_eq!(app.receiver.received().len(), before, "nothing was sent");
}

#[tokio::test]
async fn a_subscription_is_ended_by_its_form() {
    let app = app().await;
    let browser = Browser::logged_in(&app).await;
    let id = subscribe(&app, "u-1").await;
    let token = browser.form_token().await;
    let form = format!("/console/subscriptions/{id}/end");
    let (to, page) = follow(&browser, &form, &[("form_token", &token)]).await;
    assert_eq!(to, format!("/console/subscriptions/{id}?done=ended"));
    for text in ["Ended: nothing more is sent", "badge calm\">ended<"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(!page.contains(&form), "an ended one cannot be ended");
    let unknown = "/console/subscriptions/sub_01KAR2D3CV9Z8X7W6V5T4S3R2Q/end";
    let answer = browser.post(unknown, &[("form_token", &token)]).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn what_an_operator_does_by_forms_is_on_the_page_of_the_audit_log() {
    let (mut app, ids) = full().await;
    let browser = Browser::logged_in(&app).await;
    let subscription = subscribe(&app, "u-1").await;
    let watch = &ids[0];
    for (path, fields) in [
        (format!("/console/watches/{watch}/cancel"), vec![]),
        (format!("/console/subscriptions/{subscription}/end"), vec![]),
        (
            "/console/hosts/pause".to_owned(),
            vec![("host", "app.example")],
        ),
        (
            "/console/hosts/resume".to_owned(),
            vec![("host", "app.example")],
        ),
        ("/console/clients".to_owned(), vec![("name", "shop")]),
        ("/console/clients/shop/rotate-secret".to_owned(), vec![]),
        ("/console/clients/shop/retire-secret".to_owned(), vec![]),
        ("/console/clients/shop/rotate-key".to_owned(), vec![]),
        ("/console/clients/shop/revoke".to_owned(), vec![]),
    ] {
        app.clock.advance(std::time::Duration::from_millis(1));
        let answer = browser.post(&path, &fields).await;
        assert!(
            matches!(answer.status, 200 | 303),
            "{path}: {}",
            answer.text
        );
    }
    let page = browser.get("/console/audit").await.text;
    let mut acts = Vec::new();
    for row in page.split("data-label=\"Act\">").skip(1) {
        acts.push(row.split('<').next().unwrap().to_owned());
    }
    let expected = [
        "client-revoked",
        "key-rotated",
        "secret-retired",
        "secret-rotated",
        "client-added",
        "host-resumed",
        "host-paused",
        "subscription-ended",
        "watch-cancelled",
        "logged-in",
        "client-added",
    ];
    assert_eq!(acts, expected);
    assert!(
        page.contains(&format!("<a href=\"/console/watches/{watch}\">{watch}</a>")),
        "{page}"
    );
    let found = browser
        .get("/console/audit?operator=admin&act=client-added")
        .await;
    assert_eq!(found.text.matches("data-label=\"Act\"").count(), 1);
    let live = browser
        .get_with("/console/audit", &[("hx-request", "true")])
        .await;
    assert!(
        live.text.trim().starts_with("<div id=\"live\""),
        "{}",
        live.text
    );
    app.leave_work();
}
