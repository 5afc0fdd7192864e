//! Responses as bytes, and the clients that accept each as a response.

/// A response: its peculiarity, the clients that accept it, and its bytes.
pub(super) type Row = (&'static str, &'static str, Vec<u8>);

const NO_BODY: &str = "content-length: 0\r\n\r\n";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = heads();
    rows.extend(header_lines());
    rows.extend(bodies());
    rows
}

/// Returns a 200 with these header lines.
fn with(lines: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{lines}{NO_BODY}").into_bytes()
}

/// Returns a 200 with this text after the status line.
fn ends(rest: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{rest}").into_bytes()
}

/// Returns a response with this status line and no relevant headers.
fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\n{NO_BODY}").into_bytes()
}

fn heads() -> Vec<Row> {
    let ok = "HTTP/1.1 200 OK";
    let early = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let hundreds = "HTTP/1.1 100 Continue\r\n\r\n".repeat(20);
    vec![
        ("no reason", "node curl relay", line("HTTP/1.1 200")),
        ("an empty reason", "node curl relay", line("HTTP/1.1 200 ")),
        (
            "a reason in French",
            "node curl relay",
            line("HTTP/1.1 200 Très bien"),
        ),
        (
            "a status that nobody knows",
            "node curl relay",
            line("HTTP/1.1 299 So be it"),
        ),
        (
            "a status above 599",
            "node curl relay",
            line("HTTP/1.1 600 What"),
        ),
        ("HTTP/1.0", "node curl relay", line("HTTP/1.0 200 OK")),
        (
            "a blank line before",
            "node relay",
            line(&format!("\r\n{ok}")),
        ),
        ("two spaces", "curl", line("HTTP/1.1  200 OK")),
        (
            "lines that end by LF",
            "curl relay",
            b"HTTP/1.1 200 OK\ncontent-length: 0\n\n".to_vec(),
        ),
        ("a status of two digits", "", line("HTTP/1.1 20 OK")),
        ("no HTTP", "", b"<html></html>".to_vec()),
        (
            "many words that it goes on",
            "node curl relay",
            line(&format!("{hundreds}{ok}")),
        ),
        (
            "early hints",
            "node curl relay",
            line(&format!("{early}{ok}")),
        ),
        ("a head that breaks off", "curl", ends("x-half: ")),
    ]
}

fn header_lines() -> Vec<Row> {
    let many = |count: usize, each: &dyn Fn(usize) -> String| {
        with(&(0..count).map(each).collect::<String>())
    };
    let long = |length: usize| with(&format!("x-a: {}\r\n", "v".repeat(length)));
    vec![
        (
            "120 headers",
            "node curl relay",
            many(120, &|number| format!("x-{number}: v\r\n")),
        ),
        (
            "2,000 headers",
            "node curl relay",
            many(2000, &|_| "a:b\r\n".to_owned()),
        ),
        (
            "150 cookies",
            "node curl relay",
            many(150, &|number| format!("set-cookie: a{number}=b\r\n")),
        ),
        ("a header of 15,000 bytes", "node curl relay", long(15_000)),
        ("a header of 60,000 bytes", "curl relay", long(60_000)),
        (
            "a space before the colon",
            "curl relay",
            with("x-a : b\r\n"),
        ),
        (
            "a header of two lines",
            "curl relay",
            with("x-a: b\r\n  c\r\n"),
        ),
        ("an empty value", "node curl relay", with("x-a:\r\n")),
        ("a value in Latin-1", "node curl relay", {
            let mut head = b"HTTP/1.1 200 OK\r\nx-a: \xe4\xff\r\n".to_vec();
            head.extend(NO_BODY.as_bytes());
            head
        }),
        ("a name with a bracket", "curl relay", with("x[a]: b\r\n")),
        ("no name", "curl relay", with(": b\r\n")),
        ("no colon", "relay", with("garbage\r\n")),
    ]
}

fn bodies() -> Vec<Row> {
    vec![
        ("no length", "node curl relay", ends("\r\nto the end")),
        (
            "a body that breaks off",
            "node curl relay",
            ends("content-length: 99\r\n\r\nok"),
        ),
        (
            "a body that is longer",
            "node curl relay",
            ends("content-length: 1\r\n\r\nmore"),
        ),
        (
            "chunks that are none",
            "node curl relay",
            ends("transfer-encoding: chunked\r\n\r\nno size\r\n"),
        ),
        (
            "chunks twice",
            "node curl relay",
            ends("transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "an encoding that is none",
            "node curl relay",
            ends("transfer-encoding: identity\r\n\r\nok"),
        ),
        (
            "two lengths that agree",
            "curl relay",
            with("content-length: 0\r\n"),
        ),
        ("a negative length", "", ends("content-length: -1\r\n\r\n")),
        (
            "a packed body that is not",
            "node curl relay",
            ends("content-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope"),
        ),
        (
            "204 with a body",
            "node curl relay",
            b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok".to_vec(),
        ),
    ]
}
