//! The document, held to what the relay does.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

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
        "delete /watch/{watchId}",
        "delete /admin/clients/{name}",
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
        "get /problems/{code}",
        "get /readyz",
        "get /watch",
        "get /watch/{watchId}",
        "get /watch/{watchId}/stream",
        "post /admin/clients",
        "post /admin/clients/{name}/retire-secret",
        "post /admin/clients/{name}/rotate-key",
        "post /admin/clients/{name}/rotate-secret",
        "post /admin/deliveries/redeliver",
        "post /admin/deliveries/{deliveryId}/redeliver",
        "post /admin/watches/{watchId}/redeliver",
        "post /basiq/webhook",
        "post /deliveries/redeliver",
        "post /deliveries/{deliveryId}/redeliver",
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

#[test]
fn each_operation_has_an_example_a_summary_and_a_tag() {
    for (name, operation) in each_operation() {
        assert!(operation["summary"].is_string(), "{name}");
        assert!(operation["tags"][0].is_string(), "{name}");
        if let Some(body) = operation.get("requestBody") {
            assert!(
                body["content"]["application/json"]["example"].is_object(),
                "{name}"
            );
        }
        for (status, kind, media) in answers(&operation) {
            let has_one = media.get("example").or(media.get("examples")).is_some();
            assert!(has_one, "{name} {status} {kind}");
        }
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
        "JobContext",
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
        get /problems/{code}, get /readyz, post /basiq/webhook";
    for (name, operation) in each_operation() {
        let open = open.split(", ").any(|listed| listed == name);
        assert_eq!(operation.get("security").is_none(), open, "{name}");
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
