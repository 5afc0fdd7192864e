//! Tests of connections by open banking, and of how a connection shows its method.

use serde_json::json;

use crate::{
    SandboxEventType,
    http::tests::{TestSandbox, error, login},
};

#[tokio::test]
async fn a_connection_tells_its_method_in_the_spelling_of_each_document() {
    for (method, listed, single) in [
        (None, "web", "web"),
        (Some("web"), "web", "web"),
        (Some("openbanking"), "openbanking", "open-banking"),
        (Some("open-banking"), "openbanking", "open-banking"),
    ] {
        let api = TestSandbox::new();
        let token = api.token(None).await;
        let user = api.user(&token).await;
        let mut body = login("AU00000", "374829", "227470");
        if let Some(method) = method {
            body["method"] = json!(method);
        }
        let id = api.connected(&token, &user, body).await;
        let path = format!("/users/{user}/connections");
        let list = api.get(&token, &path).await;
        assert_eq!(list["data"][0]["method"], listed);
        let connection = api.get(&token, &format!("{path}/{id}")).await;
        assert_eq!(connection["method"], single);
        let (status, ends) = if single == "web" {
            ("invalid", "")
        } else {
            ("active", "2028-01-15T08:00:00.000Z")
        };
        assert_eq!(connection["status"], status);
        assert_eq!(connection["expiryDate"], ends, "only open banking ends");
    }
}

#[tokio::test]
async fn whoever_does_not_agree_at_the_bank_is_not_connected() {
    let api = TestSandbox::new();
    let token = api.token(None).await;
    let user = api.user(&token).await;
    let mut body = login("AU00000", "374829", "000000");
    body["method"] = json!("openbanking");
    api.connected(&token, &user, body).await;
    let jobs = api.get(&token, &format!("/users/{user}/jobs")).await;
    let result = &jobs["data"][0]["steps"][0]["result"];
    assert_eq!(result["code"], "authorization-failed");
    assert_eq!(result["detail"], "access_denied");
}

#[tokio::test]
async fn a_bank_without_open_banking_cannot_be_connected_so() {
    let api = TestSandbox::new();
    let token = api.token(None).await;
    let user = api.user(&token).await;
    for (bank, method) in [
        ("AU00002", json!("openbanking")),
        ("AU00000", json!("pdf")),
        ("AU00000", json!(7)),
    ] {
        let mut body = login(bank, "374829", "227470");
        body["method"] = method;
        let (status, body) = api.connect(&token, &user, body).await;
        assert_eq!((status, error(&body)), (400, "parameter-not-valid"));
    }
}

#[tokio::test]
async fn an_open_banking_connector_stands_beside_the_one_for_the_website() {
    let api = TestSandbox::new();
    let token = api.token(None).await;
    for method in ["openbanking", "open-banking"] {
        let connector = api
            .get(&token, &format!("/connectors/AU00000/{method}"))
            .await;
        assert_eq!(connector["method"], "openbanking");
        let filter = format!("connector.method.eq('{method}')");
        let list = api
            .get(&token, &format!("/connectors?filter={filter}"))
            .await;
        assert_eq!(list["totalCount"], 1);
        assert_eq!(list["data"][0], connector);
    }
    let line = "GET /connectors/AU00002/openbanking";
    assert_eq!(api.call(&token, line, None).await.0, 404);
}

#[tokio::test]
async fn whoever_authorises_anew_renews_the_consent() {
    let api = TestSandbox::heard(&[SandboxEventType::ConsentUpdated]);
    let token = api.token(None).await;
    let user = api.user(&token).await;
    let mut body = login("AU00000", "374829", "227470");
    body["method"] = json!("openbanking");
    let id = api.connected(&token, &user, body).await;
    assert!(api.told().is_empty());
    let line = format!("POST /users/{user}/connections/{id}");
    let again = json!({"password": "227470"});
    assert_eq!(api.call(&token, &line, Some(again)).await.0, 202);
    assert_eq!(api.told_types(), ["consent.updated"]);
}
