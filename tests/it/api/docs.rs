//! The documentation that the relay serves: the OpenAPI document, the reference, and the pages of problems.

use std::{collections::BTreeMap, fs, path::Path};

use axum::body::Body;
use serde_json::json;

use crate::support::{Answer, TestApp};

const FOREVER: &str = "public, max-age=31536000, immutable";

async fn get_with(app: &TestApp, path: &str, encodings: &str) -> Answer {
    let request = http::Request::get(path).header("accept-encoding", encodings);
    app.send(request.body(Body::empty()).unwrap()).await
}

/// Returns the addresses in the attributes of a page.
fn addresses(page: &str) -> Vec<&str> {
    let parts = page.split("src=\"").chain(page.split("href=\""));
    let values = parts.filter_map(|part| part.split_once('"'));
    let values = values.map(|(value, _)| value);
    values.filter(|value| value.starts_with('/')).collect()
}

#[tokio::test]
async fn the_documentation_comes_whole_from_the_relay() {
    let app = TestApp::new().await;
    let document = app.get("/openapi.json").await.body;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let page = app.get("/docs").await;
    assert!(page.header("content-type").starts_with("text/html"));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert!(!page.text.contains("https://") && !page.text.contains("http://"));
    let found = addresses(&page.text);
    assert!(found.iter().any(|path| path.ends_with("/scalar.js")));
    for path in found {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_reference_runs_no_script_and_no_style_of_others() {
    let app = TestApp::new().await;
    let (first, second) = (app.get("/docs").await, app.get("/docs").await);
    let policy = first.header("content-security-policy");
    let rules: BTreeMap<_, _> = policy
        .split("; ")
        .map(|rule| rule.split_once(' ').unwrap())
        .collect();
    assert_eq!(rules["default-src"], "'none'");
    assert_eq!(rules["script-src"], "'self'");
    assert_eq!(rules["connect-src"], "'self'");
    let nonce = rules["style-src"].strip_prefix("'self' 'nonce-").unwrap();
    let nonce = nonce.strip_suffix('\'').unwrap();
    assert!(nonce.len() >= 22, "{nonce}");
    assert!(!second.header("content-security-policy").contains(nonce));
    let in_the_page = first.text.replace("&#43;", "+").replace("&#47;", "/");
    let expected = format!("<meta property=\"csp-nonce\" content=\"{nonce}\">");
    assert!(in_the_page.contains(&expected), "{in_the_page}");
    // no page that is kept has the nonce of another answer
    assert_eq!(first.header("cache-control"), "no-store");
    assert!(!first.text.contains("<style") && !first.text.contains("<script>"));
}

#[tokio::test]
async fn a_browser_keeps_the_files_of_this_build_only() {
    let app = TestApp::new().await;
    let page = app.get("/docs").await;
    let addresses = addresses(&page.text);
    let script = addresses.iter().find(|path| path.ends_with("/scalar.js"));
    let script = *script.unwrap();
    let compressed = get_with(&app, script, "gzip, deflate, br").await;
    assert_eq!(compressed.header("content-encoding"), "gzip");
    assert_eq!(compressed.header("cache-control"), FOREVER);
    assert_eq!(compressed.header("vary"), "accept-encoding");
    let plain = get_with(&app, script, "identity").await;
    assert_eq!(plain.header("content-encoding"), "");
    assert_eq!(plain.header("vary"), "accept-encoding");
    let kind = "text/javascript; charset=utf-8";
    assert_eq!(compressed.header("content-type"), kind);
    assert_eq!(plain.header("content-type"), kind);
    assert!(plain.text.len() > 3_000_000 && plain.text.contains("createApiReference"));
    // what a page of another version asks for is served, but not kept under that version's address
    let of_another = app.get("/docs/assets/0123456789ab/docs.css").await;
    assert_eq!(of_another.status, 200);
    assert_eq!(of_another.header("cache-control"), "no-store");
    assert_eq!(app.get("/docs/assets/0123456789ab/x.js").await.status, 404);
    assert_eq!(app.get("/docs/assets/scalar.js").await.status, 404);
}

#[tokio::test]
async fn the_licences_of_what_is_in_the_binary_are_served_with_it() {
    let app = TestApp::new().await;
    let page = app.get("/docs").await;
    let addresses = addresses(&page.text);
    let licences = addresses
        .iter()
        .find(|path| path.ends_with("/scalar.licenses.txt"));
    let licences = app.get(licences.unwrap()).await;
    assert_eq!(licences.header("content-type"), "text/plain; charset=utf-8");
    assert!(licences.text.contains("@scalar/api-reference"));
}

#[tokio::test]
async fn the_type_of_each_problem_leads_to_a_page_about_it() {
    let app = TestApp::new().await;
    let document = app.get("/openapi.json").await.body;
    let types = &document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"];
    let list = app.get("/problems").await;
    assert_eq!(list.status, 200);
    let types = types.as_array().unwrap();
    assert!(types.len() > 20);
    for path in types.iter().map(|path| path.as_str().unwrap()) {
        assert!(list.text.contains(&format!("href=\"{path}\"")), "{path}");
        let page = app.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'self';"));
        for part in ["<h2>Cause</h2>", "<h2>What to do</h2>", "&#34;status&#34;:"] {
            assert!(page.text.contains(part), "{path}: {part}");
        }
        assert!(!page.text.contains("<script"), "{path}");
    }
}

#[tokio::test]
async fn a_problem_as_it_is_answered_leads_to_its_page() {
    let app = TestApp::new().await;
    let answer = app.post("/watch", &json!({"jobId": "j-1"})).await;
    let page = app.get(answer.body["type"].as_str().unwrap()).await;
    assert_eq!((answer.status, page.status), (422, 200));
    let title = answer.body["title"].as_str().unwrap();
    assert!(page.text.contains(&format!("<h1>{title}</h1>")));
}

/// Returns a request that accepts these types.
fn asking(path: &str, accept: &str) -> http::Request<Body> {
    let request = http::Request::get(path).header("accept", accept);
    request.body(Body::empty()).unwrap()
}

/// What Firefox accepts.
const FIREFOX: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

#[tokio::test]
async fn a_problem_that_does_not_exist_is_404_with_the_list() {
    let app = TestApp::new().await;
    for path in ["/problems/nothing", "/problems/%ff", "/problems/%3Cb%3E"] {
        for accept in ["*/*", "application/json, application/problem+json"] {
            let problem = app.send(asking(path, accept)).await;
            assert_eq!(problem.status, 404, "{path}");
            assert_eq!(problem.header("content-type"), "application/problem+json");
            assert_eq!(problem.body["type"], "/problems/not-found");
            assert_eq!(problem.body["instance"], path);
        }
        let problem = app.get(path).await;
        assert_eq!(problem.header("content-type"), "application/problem+json");
        let page = app.send(asking(path, FIREFOX)).await;
        assert_eq!(page.status, 404, "{path}");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert!(page.text.contains("<h1>No such problem</h1>"), "{path}");
        assert!(page.text.contains("href=\"/problems/invalid-field\""));
        assert!(!page.text.contains("<b>"), "{path}");
    }
}

#[tokio::test]
async fn the_address_of_a_relay_leads_a_browser_to_the_documentation() {
    let app = TestApp::new().await;
    let root = app.get("/").await;
    assert_eq!((root.status, root.header("location")), (303, "/docs"));
    // No other method and no other path redirects.
    let request = http::Request::post("/").body(Body::empty());
    assert_eq!(app.send(request.unwrap()).await.status, 405);
    assert_eq!(app.get("/index.html").await.status, 404);
}

/// Returns the colours that a style sheet names.
fn colours(file: &str) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(file)).unwrap();
    let lines = text.lines().map(str::trim);
    let named = lines.filter(|line| line.starts_with("--") && line.contains("light-dark("));
    let pairs = named.map(|line| line.split_once(": ").unwrap());
    pairs
        .map(|(name, colour)| (name.to_owned(), colour.to_owned()))
        .collect()
}

#[test]
fn the_documentation_has_the_colours_of_the_console() {
    let console = colours("src/console/assets/console.css");
    let own = colours("src/api/docs/assets/docs.css");
    assert!(own.len() > 15);
    for (name, colour) in own {
        assert_eq!(console.get(&name), Some(&colour), "{name}");
    }
}
