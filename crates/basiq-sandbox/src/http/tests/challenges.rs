//! Tests of the sandbox's challenges, one after the other, on a clock that the test moves.

use serde_json::{Value, json};

use crate::http::tests::{TestSandbox, login};

/// A job that asks a challenge, and the tokens of the server and of the user.
struct Asking {
    api: TestSandbox,
    tokens: (String, String),
    job: String,
}

impl Asking {
    /// Starts a job at that bank and moves the clock until the bank asks.
    async fn at(bank: &str) -> Self {
        let api = TestSandbox::new();
        let server = api.token(None).await;
        let user = api.user(&server).await;
        let client = api.token(Some(&user)).await;
        let body = login(bank, "jared", "django");
        let (_, job) = api.connect(&server, &user, body).await;
        api.pass(5);
        Self {
            api,
            tokens: (server, client),
            job: job["id"].as_str().unwrap().to_owned(),
        }
    }

    /// Returns the challenge step as it is now.
    async fn step(&self) -> Value {
        let line = format!("GET /jobs/{}", self.job);
        let (_, document) = self.api.call(&self.tokens.0, &line, None).await;
        document["steps"][1].clone()
    }

    async fn answer(&self, text: &str) -> u16 {
        let body = json!({"mfa-response": [text]});
        let line = format!("POST /jobs/{}/mfa", self.job);
        self.api.call(&self.tokens.1, &line, Some(body)).await.0
    }
}

#[tokio::test]
async fn the_careful_bank_asks_a_second_time_after_a_right_answer() {
    for (second, status, word) in [("Hooli", 202, "success"), ("1234", 400, "failed")] {
        let asking = Asking::at("AU01004").await;
        assert_eq!(asking.step().await["result"]["method"], "token");
        assert_eq!(asking.answer("1234").await, 202);
        let checked = asking.step().await;
        assert_eq!(
            (&checked["status"], &checked["result"]),
            (&json!("in-progress"), &Value::Null)
        );
        assert_eq!(asking.answer("1234").await, 400, "nothing is asked now");
        asking.api.pass(1);
        let next = asking.step().await;
        assert_eq!(next["status"], "in-progress");
        assert_eq!(next["result"]["method"], "security-questions");
        assert_eq!(asking.answer(second).await, status);
        asking.api.pass(1);
        assert_eq!(asking.step().await["status"], word);
    }
}

#[tokio::test]
async fn a_second_challenge_has_its_own_time() {
    let asking = Asking::at("AU01004").await;
    asking.api.pass(100);
    assert_eq!(asking.answer("1234").await, 202);
    asking.api.pass(100);
    assert_eq!(asking.step().await["status"], "in-progress");
    asking.api.pass(21);
    let expired = asking.step().await;
    assert_eq!(
        (&expired["status"], &expired["result"]),
        (&json!("failed"), &Value::Null)
    );
}

#[tokio::test]
async fn only_a_government_bank_still_shows_a_challenge_that_was_answered() {
    for (bank, kind) in [("AU00002", Value::Null), ("AU00004", json!("mfa"))] {
        let asking = Asking::at(bank).await;
        assert_eq!(asking.answer("1234").await, 202);
        assert_eq!(asking.step().await["result"], Value::Null);
        asking.api.pass(1);
        let done = asking.step().await;
        assert_eq!(done["status"], "success");
        assert_eq!(done["result"]["type"], kind, "{bank}");
    }
}
