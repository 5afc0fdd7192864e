//! Acts on many deliveries or on a whole host: what passes a filter is sent again, and hosts are paused by hand.

use crate::{
    console::{
        Browser, TOKEN,
        forms::{between, fields, follow},
        full,
    },
    support::TestApp,
};

/// What the overview says while a host is paused by hand.
const REMINDER: &str = "1 callback host is paused by an operator since ";

#[tokio::test]
async fn what_passes_a_filter_is_counted_and_that_alone_is_sent_again() {
    let (mut app, _) = full().await;
    // attempts end a few milliseconds after they began, while this clock stands still
    app.clock.advance(std::time::Duration::from_secs(1));
    let browser = Browser::logged_in(&app).await;
    let all = "/console/deliveries/redeliver";
    let other = browser.get(&format!("{all}?host=else.example")).await.text;
    assert!(other.contains("Nothing to send again"), "{other}");
    let asks = browser
        .get(&format!("{all}?host=127.0.0.1&code=500&attempts=1"))
        .await
        .text;
    for text in ["Send 3 deliveries again?", "127.0.0.1: 3", "test: 3"] {
        assert!(asks.contains(text), "{text}: {asks}");
    }
    let counted = fields(&asks);
    // a count that is too low, or none, sends nothing and asks again
    for low in ["2", "", "x"] {
        let fields = counted.iter().map(|(name, value)| match *name {
            "count" => ("count", low),
            name => (name, *value),
        });
        let (to, page) = follow(&browser, all, &fields.collect::<Vec<_>>()).await;
        assert!(
            to.starts_with(all) && to.contains("done=count-again"),
            "{to}"
        );
        assert!(page.contains("Send 3 deliveries again?"), "{page}");
        assert!(page.contains("Nothing was queued yet"), "{page}");
    }
    // one of them is sent again meanwhile: the others are sent, and it is not sent twice
    let list = browser.get("/console/deliveries").await.text;
    let one = format!("dlv_{}", between(&list, "id=\"dlv_", "\""));
    let path = format!("/console/deliveries/{one}/redeliver");
    follow(&browser, &path, &[]).await;
    let (to, _) = follow(&browser, all, &counted).await;
    assert!(to.contains("host=127.0.0.1&code=500"), "{to}");
    assert!(to.ends_with("done=queued-many&count=2"), "{to}");
    let (to, page) = follow(&browser, all, &counted).await;
    assert!(to.ends_with("count=0"), "{to}");
    assert!(page.contains("Nothing was queued"), "{page}");
    let audit = browser
        .get("/console/audit?act=chosen-redelivered")
        .await
        .text;
    assert_eq!(audit.matches("data-label=\"Act\"").count(), 1);
    assert!(audit.contains("host=127.0.0.1&#38;code=500"), "{audit}");
    app.receiver.accept_all();
    app.skip(std::time::Duration::from_mins(5)).await;
    let left = Browser::logged_in(&app).await;
    let left = left.get("/console/deliveries?state=delivered").await.text;
    assert!(left.contains(&one), "{left}");
}

#[tokio::test]
async fn a_host_is_paused_and_resumed_by_hand() {
    let builder = TestApp::builder().settings(|settings| {
        settings.server.admin_token = Some(TOKEN.to_owned().into());
    });
    let mut app = builder.build().await;
    let document = crate::support::job(
        "j-1",
        app.now(),
        &[("verify-credentials", "success", serde_json::Value::Null)],
    );
    app.sandbox.seed_document("j-1", document);
    {
        let browser = Browser::logged_in(&app).await;
        for bad in [
            "",
            "a b",
            "https://app.example/x",
            "app.example:80",
            &"x".repeat(300),
        ] {
            let refused = browser.post("/console/hosts/pause", &[("host", bad)]).await;
            assert_eq!(refused.status, 422, "{bad}");
            assert!(refused.text.contains("host: “"), "{}", refused.text);
        }
        let host = [("host", "127.0.0.1")];
        let (to, page) = follow(&browser, "/console/hosts/pause", &host).await;
        assert_eq!(to, "/console/hosts?done=host-paused");
        for text in ["Paused by hand", "127.0.0.1", ">admin<"] {
            assert!(page.contains(text), "{text}: {page}");
        }
        let (to, _) = follow(&browser, "/console/hosts/pause", &host).await;
        assert_eq!(to, "/console/hosts?done=host-was-paused");
        let overview = browser.get("/console").await.text;
        assert!(overview.contains(REMINDER), "{overview}");
    }
    let watch = app.watch("j-1").await;
    app.skip(std::time::Duration::from_secs(30)).await;
    assert_eq!(app.receiver.received().len(), 0, "nothing is posted");
    {
        let browser = Browser::logged_in(&app).await;
        for path in [
            "/console/deliveries?state=pending",
            &format!("/console/watches/{watch}"),
        ] {
            let page = browser.get(path).await.text;
            let why = "host paused by admin since";
            assert!(page.contains(why), "{path}: {page}");
        }
        let host = [("host", "127.0.0.1")];
        let (to, page) = follow(&browser, "/console/hosts/resume", &host).await;
        assert_eq!(to, "/console/hosts?done=host-resumed");
        assert!(!page.contains("Paused by hand"), "{page}");
        let (to, _) = follow(&browser, "/console/hosts/resume", &host).await;
        assert_eq!(to, "/console/hosts?done=host-was-not-paused");
        let overview = browser.get("/console").await.text;
        assert!(!overview.contains(REMINDER), "{overview}");
        let audit = browser.get("/console/audit").await.text;
        assert!(audit.contains(">host-paused<") && audit.contains(">host-resumed<"));
    }
    app.skip(std::time::Duration::from_secs(1)).await;
    assert_eq!(app.receiver.received().len(), 1);
    let delivery = &app.story(&watch).await["events"][0]["deliveries"][0];
    assert_eq!(
        delivery["attempts"].as_array().unwrap().len(),
        1,
        "{delivery}"
    );
}

#[tokio::test]
async fn what_waits_for_a_host_that_keeps_failing_says_until_when_the_host_is_paused() {
    let (app, ids) = full().await;
    let browser = Browser::logged_in(&app).await;
    let list = browser.get("/console/deliveries?state=pending").await.text;
    assert!(list.contains("host paused until "), "{list}");
    assert!(list.contains("because it keeps failing"), "{list}");
    let watch = browser.get(&format!("/console/watches/{}", ids[9])).await;
    assert!(watch.text.contains("host paused until "), "{}", watch.text);
}
