//! Every page, on a store that contains something of every kind.

use std::time::Duration;

use crate::console::{Browser, HOSTILE, TOKEN, app, full, subscribe};

#[tokio::test]
async fn every_page_is_whole_escaped_and_without_secrets() {
    let (app, ids) = full().await;
    let browser = Browser::logged_in(&app).await;
    let mut paths: Vec<String> = [
        "/console",
        "/console/watches",
        "/console/watches?state=awaiting-user",
        "/console/watches?state=nonsense&before=nonsense",
        "/console/watches?q=127.0.0.1",
        "/console/subscriptions",
        "/console/subscriptions?user=u-1&before=nonsense",
        "/console/deliveries",
        "/console/deliveries?state=pending",
        "/console/deliveries?state=nonsense&after=nonsense",
        "/console/hosts",
        "/console/deliveries?host=127.0.0.1&client=test&code=500&attempts=1&from=2026-01-01&bank=x",
        "/console/deliveries/redeliver?client=test",
        "/console/watches?host=127.0.0.1&metadata=a%3Db&client=nobody&until=2026-01-01T10:00",
        "/console/clients",
        "/console/audit",
        "/console/audit?operator=nobody&act=logged-in",
        "/console/audit?operator=%3Cscript%3E&act=nothing&before=x",
        "/console/clients?done=revoked&count=3",
        "/console?span=week",
        "/console/comparison",
        "/console/comparison?span=nonsense",
    ]
    .map(ToOwned::to_owned)
    .into();
    let fixed = paths.len();
    paths.extend(ids.iter().map(|id| format!("/console/watches/{id}")));
    let subscription = subscribe(&app, "u-1").await;
    paths.push(format!("/console/subscriptions/{subscription}"));
    let hostile: String = url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect();
    paths.push(format!("/console/watches?q={}", hostile.replace("%3D", "")));
    paths.push(format!("/console/watches?metadata={hostile}"));
    let secrets = [
        TOKEN,
        app.client.key.expose(),
        app.client.secret.expose().trim_start_matches("whsec_"),
        "test-basiq-key",
    ];
    for path in &paths {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(page.header("cache-control"), "no-store");
        assert_eq!(page.header("x-frame-options"), "DENY");
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"));
        assert!(!policy.contains("unsafe"));
        assert!(page.text.ends_with("</html>"), "{path}");
        for harm in ["<script>", "<img", " style=", "onerror=\"", "javascript:"] {
            assert!(!page.text.contains(harm), "{path}: {harm}");
        }
        for secret in secrets {
            assert!(!page.text.contains(secret), "{path}");
        }
    }
    let escaped = "&#60;script&#62;alert(&#39;x&#39;)";
    for path in [&paths[fixed + 4], paths.last().unwrap()] {
        let page = browser.get(path).await.text;
        assert!(page.contains(escaped), "{path}: {page}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_on_a_page() {
    let app = app().await;
    let browser = Browser::logged_in(&app).await;
    for path in [
        "/console/nothing",
        "/console/watches/wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q",
        "/console/watches/nonsense",
        "/console/subscriptions/sub_01KAR2D3CV9Z8X7W6V5T4S3R2Q",
        "/console/subscriptions/nonsense",
        "/console/assets/x/nothing.css",
        "/console/assets/%FF/console.css",
    ] {
        let page = browser.get(path).await;
        assert_eq!(page.status, 404, "{path}");
        assert!(page.text.contains("<h1>Nothing here</h1>"), "{path}");
    }
}

#[tokio::test]
async fn how_things_stand_is_seen_at_once() {
    let (app, _) = full().await;
    let browser = Browser::logged_in(&app).await;
    let page = browser.get("/console").await.text;
    for text in [
        "3 deliveries are dead",
        "1 callback host is paused",
        ">answers<",
        "1 relay<",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let hosts = browser.get("/console/hosts").await.text;
    for text in ["127.0.0.1", "HTTP 500", ">paused<"] {
        assert!(hosts.contains(text), "{text}: {hosts}");
    }
}

#[tokio::test]
async fn a_watch_tells_its_whole_story() {
    let (app, ids) = full().await;
    let browser = Browser::logged_in(&app).await;
    let page = browser
        .get(&format!("/console/watches/{}", ids[4]))
        .await
        .text;
    let story = [
        "Registered by test",
        "First look at the job",
        "Event 1",
        "invalid-credentials",
        "Attempt 1 to deliver event 1",
        "HTTP 500",
        "Attempt 2 to deliver event 1",
    ];
    let places: Vec<_> = story
        .iter()
        .map(|text| page.find(text).expect(text))
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    let waits = browser
        .get(&format!("/console/watches/{}", ids[3]))
        .await
        .text;
    for text in [
        "Next look at the job",
        "Basiq retries the update",
        "awaits",
        "hx-trigger",
    ] {
        assert_eq!(waits.contains(text), text != "awaits", "{text}");
    }
}

#[tokio::test]
async fn watches_are_found_by_whatever_is_known_of_them() {
    let (app, ids) = full().await;
    let browser = Browser::logged_in(&app).await;
    let found = async |text: &str| {
        let page = browser
            .get(&format!("/console/watches?q={text}"))
            .await
            .text;
        page.matches("<tr role=\"row\" id=\"wch_").count()
    };
    assert_eq!(found("j-failed-3").await, 1);
    assert_eq!(found("127.0.0.1").await, ids.len());
    // The job documents link to user u-7 and connection c-9.
    assert_eq!(found("c-9").await, ids.len() - 1);
    assert_eq!(found("u-7").await, ids.len() - 1);
    assert_eq!(found("c-").await, 0);
    // beginnings of at least three characters
    assert_eq!(found("j-failed-").await, 6);
    assert_eq!(found("127.0.").await, ids.len());
    assert_eq!(found("-failed-3").await, 0);
    assert_eq!(found(&ids[0][..8]).await, ids.len());
    let by_id = browser
        .get(&format!("/console/watches?q=%20{}", ids[1]))
        .await;
    let page = format!("/console/watches/{}", ids[1]);
    assert_eq!((by_id.status, by_id.header("location")), (303, &*page));
    // events and deliveries, whole or not, lead to their watch
    let page = format!("/console/watches/{}", ids[4]);
    let story = app.story(&ids[4]).await;
    let event = story["events"][0]["id"].as_str().unwrap();
    let delivery = event.replace("evt_", "dlv_");
    for text in [event, &delivery, &event[..22]] {
        let found = browser.get(&format!("/console/watches?q={text}")).await;
        assert_eq!(
            (found.status, found.header("location")),
            (303, &*page),
            "{text}"
        );
    }
    let subscription = subscribe(&app, "u-9").await;
    let found = browser
        .get(&format!("/console/watches?q={subscription}"))
        .await;
    let page = format!("/console/subscriptions/{subscription}");
    assert_eq!((found.status, found.header("location")), (303, &*page));
}

#[tokio::test]
async fn lists_are_filtered_by_client_host_bank_code_time_and_attempts() {
    let (app, _) = full().await;
    let browser = Browser::logged_in(&app).await;
    let rows = async |path: &str, id: &str| {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        page.text
            .matches(&format!("<tr role=\"row\" id=\"{id}_"))
            .count()
    };
    for (filter, count) in [
        ("client=test", 3),
        ("client=nobody", 0),
        ("host=127.0.0.1", 3),
        ("host=else.example", 0),
        ("bank=AU99999", 0),
        ("code=invalid-credentials", 3),
        ("code=500", 3),
        ("code=refused", 3),
        ("code=404", 0),
        ("attempts=2", 3),
        ("attempts=3", 0),
        ("from=2000-01-01", 3),
        ("from=2100-01-01", 0),
        ("until=2100-01-01", 3),
        ("until=2000-01-01T00:00:00Z", 0),
        ("client=test&host=127.0.0.1&code=500", 3),
    ] {
        let path = format!("/console/deliveries?{filter}");
        assert_eq!(rows(&path, "dlv").await, count, "{filter}");
    }
    for (filter, count) in [
        ("code=invalid-credentials", 6),
        ("code=invalid-credentials&state=settled", 6),
        ("code=invalid-credentials&state=watching", 0),
        ("code=invalid-credentials&host=127.0.0.1&client=test", 6),
        ("metadata=a%3Db", 0),
        ("attempts=2", 3),
        ("from=2100-01-01", 0),
        ("until=2000-01-01", 0),
    ] {
        let path = format!("/console/watches?{filter}");
        assert_eq!(rows(&path, "wch").await, count, "{filter}");
    }
    for bad in ["from=soon", "until=x", "attempts=many", "metadata=x"] {
        let page = browser.get(&format!("/console/watches?{bad}")).await;
        assert_eq!(page.status, 422, "{bad}");
        let field = bad.split('=').next().unwrap();
        assert!(page.text.contains(&format!("{field}: “")), "{}", page.text);
    }
}

#[tokio::test]
async fn a_filter_says_how_far_it_looked_and_looks_further() {
    let mut app = app().await;
    let first = app
        .watch_with("j-first", serde_json::json!({"metadata": {"order": "17"}}))
        .await;
    app.clock.advance(Duration::from_millis(1));
    for n in 0..2005 {
        app.watch(&format!("j-{n}")).await;
    }
    app.leave_work();
    let browser = Browser::logged_in(&app).await;
    let page = browser.get("/console/watches?q=order%3D17").await;
    assert_eq!(
        (page.status, page.header("location")),
        (303, "/console/watches?metadata=order%3D17")
    );
    let page = browser
        .get("/console/watches?metadata=order%3D17")
        .await
        .text;
    assert!(page.contains("Looked at 2000, back to"), "{page}");
    assert!(!page.contains(&first), "{page}");
    let (_, further) = page.split_once("<p class=\"looked\">").unwrap();
    let further = further.split("href=\"").nth(1).unwrap();
    let further = further.split('"').next().unwrap().replace("&#38;", "&");
    let page = browser.get(&further).await.text;
    assert!(page.contains(&first), "{page}");
    assert!(!page.contains("Looked at"), "{page}");
}

#[tokio::test]
async fn an_expired_event_offers_no_redelivery() {
    let (mut app, ids) = full().await;
    // the challenge of this watch is never answered, and its callback answers 500
    app.pass(Duration::from_mins(3), Duration::from_secs(1))
        .await;
    app.leave_work();
    let browser = Browser::logged_in(&app).await;
    let page = browser.get("/console/deliveries?state=expired").await.text;
    assert!(page.contains("id=\"dlv_"), "{page}");
    assert!(!page.contains(">Redeliver</button>"), "{page}");
    let page = browser
        .get(&format!("/console/watches/{}", ids[2]))
        .await
        .text;
    assert!(page.contains("not delivered in time"), "{page}");
    assert!(!page.contains("id=\"redeliver\""), "{page}");
    // its many attempts are folded
    assert!(page.contains("Show these"), "{page}");
    assert!(page.contains("webhook-timestamp: "), "{page}");
}

#[tokio::test]
async fn long_lists_have_pages() {
    let mut app = app().await;
    for n in 0..53 {
        app.watch(&format!("j-{n}")).await;
    }
    app.leave_work();
    let browser = Browser::logged_in(&app).await;
    let page = browser.get("/console/watches?state=watching").await.text;
    let rows = |page: &str| page.matches("<tr role=\"row\" id=\"wch_").count();
    assert_eq!(rows(&page), 50);
    let (main, _) = page.split_once("<footer").unwrap();
    let (_, older) = main.rsplit_once("href=\"").unwrap();
    let older = older.split('"').next().unwrap().replace("&#38;", "&");
    assert!(
        older.starts_with("/console/watches?state=watching&before=wch_"),
        "{older}"
    );
    let page = browser.get(&older).await.text;
    assert_eq!(rows(&page), 3);
    assert!(page.contains("Newest") && !page.contains(">Older<"));
}

#[tokio::test]
async fn files_are_kept_by_browsers_and_come_from_the_relay_alone() {
    let app = app().await;
    let browser = Browser::logged_in(&app).await;
    let page = browser.get("/console").await.text;
    let mut files = 0;
    for (_, rest) in page
        .match_indices("=\"/console/assets/")
        .map(|(at, _)| page.split_at(at + 2))
    {
        let path = rest.split('"').next().unwrap();
        let file = browser.get(path).await;
        assert_eq!(file.status, 200, "{path}");
        assert_eq!(
            file.header("cache-control"),
            "public, max-age=31536000, immutable"
        );
        files += 1;
    }
    assert_eq!(files, 4);
    // the page of another version, during an upgrade
    let other = browser
        .get("/console/assets/0123456789ab/console.css")
        .await;
    assert_eq!(
        (other.status, other.header("cache-control")),
        (200, "no-store")
    );
    assert!(!page.contains("=\"http"), "{page}");
}

#[tokio::test]
async fn a_subscription_is_shown_with_its_notices_and_found_by_its_person() {
    let mut app = app().await;
    let browser = Browser::logged_in(&app).await;
    let (one, other) = (subscribe(&app, "u-1").await, subscribe(&app, "u-2").await);
    let list = browser.get("/console/subscriptions").await.text;
    assert!(list.contains(&one) && list.contains(&other), "{list}");
    let found = browser.get("/console/subscriptions?user=u-2").await.text;
    assert!(!found.contains(&one) && found.contains(&other), "{found}");
    let unknown = browser.get("/console/subscriptions?user=a%2Fb").await.text;
    assert!(
        unknown.contains("Nobody subscribed to <b>a/b</b>"),
        "{unknown}"
    );
    let path = format!("/console/subscriptions/{one}");
    let page = browser.get(&path).await.text;
    for text in [
        "active",
        "There are none yet.",
        "/console/watches?q=u-1",
        "/hook?…",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(!page.contains("token=hidden"), "{page}");
    // Basiq does not know the user
    app.run_due().await;
    app.skip(Duration::from_mins(2)).await;
    let page = Browser::logged_in(&app).await.get(&path).await.text;
    for text in ["notice.user-removed", "delivered", "badge calm\">ended<"] {
        assert!(page.contains(text), "{text}: {page}");
    }
}
