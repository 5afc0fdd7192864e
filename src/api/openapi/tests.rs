//! Tests that the OpenAPI document matches the behaviour of the relay.

use std::collections::BTreeSet;

use relay_domain::{NoticeKind, Status};
use serde_json::{Value, json};

use super::*;
use crate::web::ProblemCode;

fn each_operation() -> Vec<(String, Value)> {
    let document = serde_json::to_value(document()).unwrap();
    let paths = document["paths"].as_object().unwrap().clone();
    let mut all = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            all.push((format!("{method} {path}"), operation.clone()));
        }
    }
    all
}

#[test]
fn it_is_the_document_of_the_whole_contract() {
    let names: BTreeSet<_> = each_operation().into_iter().map(|one| one.0).collect();
    let expected = [
        "delete /subscriptions/{subscriptionId}",
        "delete /watch/{watchId}",
        "delete /admin/clients/{name}",
        "delete /admin/watches/{watchId}",
        "get /admin/audit",
        "get /admin/clients",
        "get /admin/deliveries",
        "get /admin/watches",
        "get /admin/watches/{watchId}",
        "get /catalogue",
        "get /deliveries",
        "get /docs",
        "get /healthz",
        "get /metrics",
        "get /openapi.json",
        "get /problems",
        "get /problems/{code}",
        "get /readyz",
        "get /subscriptions",
        "get /subscriptions/{subscriptionId}",
        "get /watch",
        "get /watch/{watchId}",
        "get /watch/{watchId}/stream",
        "post /admin/clients",
        "post /admin/clients/{name}/retire-secret",
        "post /admin/clients/{name}/rotate-key",
        "post /admin/clients/{name}/rotate-secret",
        "post /admin/deliveries/redeliver",
        "post /admin/deliveries/{deliveryId}/redeliver",
        "post /admin/erase",
        "post /admin/watches/{watchId}/redeliver",
        "post /basiq/webhook",
        "post /callback-test",
        "post /deliveries/redeliver",
        "post /deliveries/{deliveryId}/redeliver",
        "post /subscriptions",
        "post /watch",
        "post /watch/batch",
        "post /watch/{watchId}/mfa",
        "post /watch/{watchId}/redeliver",
    ];
    assert_eq!(names, expected.map(str::to_owned).into());
    let document = serde_json::to_value(document()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}

/// Returns whether a part of the document has a description.
fn is_described(thing: &Value) -> bool {
    let text = thing["description"].as_str();
    text.is_some_and(|text| !text.trim().is_empty())
}

/// Returns what the description of an operation or webhook lacks.
fn gaps(operation: &Value) -> Vec<String> {
    let mut gaps = Vec::new();
    let mut need = |is_there: bool, what: &str| {
        if !is_there {
            gaps.push(what.to_owned());
        }
    };
    need(operation["summary"].is_string(), "summary");
    need(is_described(operation), "description");
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let complete = is_described(parameter) && parameter.get("example").is_some();
        need(complete, &format!("parameter {}", parameter["name"]));
    }
    if let Some(body) = operation.get("requestBody") {
        let example = &body["content"]["application/json"]["example"];
        need(is_described(body) && example.is_object(), "body");
    }
    let responses = operation["responses"].as_object();
    for (status, response) in responses.into_iter().flatten() {
        need(is_described(response), &format!("words for {status}"));
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            need(is_described(header), &format!("{status} header {name}"));
        }
    }
    for (status, kind, media) in answers(operation) {
        let has_one = media.get("example").or(media.get("examples")).is_some();
        need(has_one, &format!("example of {status} {kind}"));
    }
    gaps
}

#[test]
fn nothing_of_an_operation_is_left_to_guess() {
    for (name, operation) in each_operation() {
        assert_eq!(gaps(&operation), Vec::<String>::new(), "{name}");
        assert!(operation["tags"][0].is_string(), "{name}");
    }
}

#[test]
fn each_error_tells_its_problem_codes_with_an_example_of_each() {
    for (name, operation) in each_operation() {
        let responses = operation["responses"].as_object().unwrap();
        let errors = responses
            .iter()
            .filter(|(status, _)| status.as_str() >= "400");
        let mut count = 0;
        for (status, response) in errors {
            count += 1;
            let place = format!("{name} {status}");
            // a browser gets a page that lists the kinds there are
            let has_page = response["content"]["text/html"].is_object();
            assert_eq!(has_page, place == "get /problems/{code} 404", "{place}");
            let media = &response["content"]["application/problem+json"];
            assert_eq!(media["schema"]["$ref"], "#/components/schemas/Problem");
            let examples = media["examples"].as_object().unwrap();
            assert!(!examples.is_empty(), "{place}");
            for (code, example) in examples {
                let (known, value) = (ProblemCode::from_word(code).unwrap(), &example["value"]);
                assert_eq!(value["type"], known.type_uri(), "{place}");
                assert_eq!(value["status"].to_string(), *status, "{place}");
                let instance = value["instance"].as_str().unwrap();
                assert!(!instance.contains('{'), "{place}: {instance}");
                let described = response["description"].as_str().unwrap();
                assert!(described.contains(&format!("`{code}`")), "{place}");
                let has_fault = value["errors"][0]["pointer"].is_string();
                assert_eq!(has_fault, code.starts_with("invalid-"), "{place} {code}");
            }
        }
        // 500, and 503 when the relay is overloaded
        assert!(count >= 2, "{name}");
    }
}

#[test]
fn each_type_of_event_is_a_webhook_whose_answers_mean_something() {
    let document = serde_json::to_value(document()).unwrap();
    let webhooks = document["webhooks"].as_object().unwrap();
    let types = &document["components"]["schemas"]["EventBody"]["properties"]["type"]["enum"];
    let jobs = Status::ALL.iter().map(|status| format!("job.{status}"));
    let notices = NoticeKind::ALL.iter().map(|kind| kind.event_type());
    let expected: BTreeSet<_> = jobs.chain(notices).collect();
    let listed = types.as_array().unwrap().iter();
    let listed = listed.map(|word| word.as_str().unwrap().to_owned());
    assert_eq!(listed.collect::<BTreeSet<_>>(), expected);
    let told: BTreeSet<_> = webhooks.keys().cloned().collect();
    let mut all = expected;
    all.insert("relay.test".to_owned());
    assert_eq!(told, all);
    for (name, item) in webhooks.iter().filter(|(name, _)| *name != "relay.test") {
        let operation = &item["post"];
        assert_eq!(gaps(operation), Vec::<String>::new(), "{name}");
        let media = &operation["requestBody"]["content"]["application/json"];
        assert_eq!(media["schema"]["$ref"], "#/components/schemas/EventBody");
        assert_eq!(media["example"]["type"], **name);
        let headers = operation["parameters"].as_array().unwrap().iter();
        let headers = headers.map(|header| header["name"].as_str().unwrap());
        let expected = [
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
            "traceparent",
        ];
        assert_eq!(headers.collect::<Vec<_>>(), expected);
        let responses = &operation["responses"];
        for status in ["2XX", "3XX", "410", "429", "503", "default"] {
            assert!(is_described(&responses[status]), "{name} {status}");
        }
        assert!(responses["429"]["headers"]["retry-after"].is_object());
    }
}

#[test]
fn a_test_is_a_webhook_of_its_own_that_nothing_follows() {
    let document = serde_json::to_value(document()).unwrap();
    let operation = &document["webhooks"]["relay.test"]["post"];
    assert_eq!(gaps(operation), Vec::<String>::new());
    let media = &operation["requestBody"]["content"]["application/json"];
    assert_eq!(
        media["schema"]["$ref"],
        "#/components/schemas/TestEventBody"
    );
    let example = media["example"].as_object().unwrap();
    let now = "2026-11-23T09:14:28Z".parse().unwrap();
    let body: Value = serde_json::from_slice(&TestEventBody::new(now).to_json()).unwrap();
    assert_eq!(&body, &Value::Object(example.clone()));
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["TestEventType"]["enum"], json!(["relay.test"]));
    let responses = operation["responses"].as_object().unwrap();
    let statuses: Vec<_> = responses.keys().collect();
    assert_eq!(statuses, ["2XX", "4XX", "default"]);
}

#[test]
fn every_operation_has_an_id_of_its_own() {
    let document = serde_json::to_value(document()).unwrap();
    let webhooks = document["webhooks"].as_object().unwrap().values();
    let webhooks = webhooks.map(|item| item["post"].clone());
    let operations = each_operation().into_iter().map(|one| one.1);
    let mut seen = BTreeSet::new();
    for operation in operations.chain(webhooks) {
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(seen.insert(id.clone()), "{id}");
    }
}

fn answers(operation: &Value) -> Vec<(&String, &String, &Value)> {
    let responses = operation["responses"].as_object().unwrap();
    responses
        .iter()
        .filter_map(|(status, response)| Some((status, response["content"].as_object()?)))
        .flat_map(|(status, content)| {
            content
                .iter()
                .map(move |(kind, media)| (status, kind, media))
        })
        .collect()
}

#[test]
fn the_kinds_of_problems_are_those_of_the_document() {
    let document = serde_json::to_value(document()).unwrap();
    let listed = &document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"];
    let known: Vec<_> = ProblemCode::ALL
        .iter()
        .map(|code| code.type_uri())
        .collect();
    assert_eq!(*listed, json!(known));
    let told: BTreeSet<String> = each_operation()
        .iter()
        .flat_map(|(_, operation)| operation["responses"].as_object().unwrap().values())
        .filter_map(|response| {
            response["content"]["application/problem+json"]["examples"].as_object()
        })
        .flat_map(|examples| examples.keys().cloned())
        .collect();
    let expected = ProblemCode::ALL
        .iter()
        .filter(|code| **code != ProblemCode::MethodNotAllowed);
    assert_eq!(
        told,
        expected.map(|code| code.as_str().to_owned()).collect()
    );
}

#[test]
fn every_reference_leads_somewhere() {
    let document = serde_json::to_value(document()).unwrap();
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

#[test]
fn every_key_of_an_event_is_always_there() {
    let document = serde_json::to_value(document()).unwrap();
    for name in [
        "EventBody",
        "EventChallenge",
        "EventContext",
        "Subscription",
        "Watch",
        "Attempt",
    ] {
        let schema = &document["components"]["schemas"][name];
        let keys = schema["properties"].as_object().unwrap().len();
        assert_eq!(schema["required"].as_array().unwrap().len(), keys, "{name}");
    }
}

#[test]
fn calls_with_a_key_say_so() {
    let open = "get /catalogue, get /docs, get /healthz, get /metrics, get /openapi.json, \
        get /problems, get /problems/{code}, get /readyz, post /basiq/webhook";
    for (name, operation) in each_operation() {
        let open = open.split(", ").any(|listed| listed == name);
        assert_eq!(operation["security"] == json!([]), open, "{name}");
        let unsigned = open && name != "post /basiq/webhook";
        assert_eq!(
            operation["responses"].get("401").is_none(),
            unsigned,
            "{name}"
        );
    }
}

#[test]
fn every_link_leads_from_an_answer_to_a_parameter_of_an_operation() {
    let operations = each_operation();
    let named = |id: &str| {
        let found = operations.iter().find(|(_, one)| one["operationId"] == id);
        &found.unwrap().1
    };
    for (from, status, pointer, parameter, targets) in LINKS {
        let answer = &named(from)["responses"][status];
        let example = &answer["content"]["application/json"]["example"];
        assert!(
            example.pointer(pointer).is_some(),
            "{from} {status} {pointer}"
        );
        for target in *targets {
            assert_eq!(answer["links"][target]["operationId"], **target);
            let parameters = named(target)["parameters"].as_array().unwrap();
            let takes_it = parameters.iter().any(|one| one["name"] == **parameter);
            assert!(takes_it, "{target} {parameter}");
        }
    }
}

/// Returns all operations and webhooks.
fn each_operation_and_webhook() -> Vec<(String, Value)> {
    let document = serde_json::to_value(document()).unwrap();
    let webhooks = document["webhooks"].as_object().unwrap().iter();
    let webhooks = webhooks.map(|(name, item)| (name.clone(), item["post"].clone()));
    each_operation().into_iter().chain(webhooks).collect()
}

#[test]
fn generators_are_told_the_server_the_security_and_how_each_call_can_end() {
    let document = serde_json::to_value(document()).unwrap();
    assert_eq!(document["servers"][0]["url"], "/");
    let schemes = document["components"]["securitySchemes"]
        .as_object()
        .unwrap();
    let tags = document["tags"].as_array().unwrap();
    for (name, operation) in each_operation_and_webhook() {
        let security = operation["security"].as_array().expect(&name).iter();
        let mut named = security.flat_map(|one| one.as_object().unwrap().keys());
        assert!(named.all(|scheme| schemes.contains_key(scheme)), "{name}");
        assert!(
            tags.iter().any(|tag| tag["name"] == operation["tags"][0]),
            "{name}"
        );
        let statuses = operation["responses"].as_object().unwrap();
        for class in ["2", "4"] {
            assert!(
                statuses.keys().any(|one| one.starts_with(class)),
                "{name} {class}XX"
            );
        }
    }
}

/// Returns the references in `oneOf` lists that have other keys beside them, each with its place in the document.
fn beside_references(place: &str, schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in schema.as_object().into_iter().flatten() {
        found.extend(beside_references(&format!("{place}/{key}"), value));
    }
    for form in schema["oneOf"].as_array().into_iter().flatten() {
        let keys = form.as_object().unwrap();
        let is_told_to_be_null = schema["oneOf"].to_string().contains("\"null\"");
        if keys.contains_key("$ref") && keys.len() > 1 && !is_told_to_be_null {
            found.push(format!("{place}: {form}"));
        }
    }
    found
}

#[test]
fn a_form_of_several_is_a_reference_and_nothing_more() {
    let document = serde_json::to_value(document()).unwrap();
    let found = beside_references("", &document["components"]["schemas"]);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn webhooks_are_left_out_of_generated_clients() {
    let document = serde_json::to_value(document()).unwrap();
    for (name, item) in document["webhooks"].as_object().unwrap() {
        assert_eq!(item["post"]["x-internal"], true, "{name}");
    }
}
