import assert from "node:assert/strict";
import test from "node:test";

import { EventParser } from "../index.js";

const STREAM = ": hello\r\n\r\nretry: 2000\r\nevent: progress\rdata: {\"a\":1}\r\ndata:{}\n\nid: evt_1\ndata\n\nevent: lost\n\nid: evt_2\0\ndata:  two\n\n";
const MESSAGES = [
  { event: "progress", data: '{"a":1}\n{}', lastEventId: "" },
  { event: "message", data: "", lastEventId: "evt_1" },
  { event: "message", data: " two", lastEventId: "evt_1" },
];

test("a stream is read as the standard says, wherever its pieces are cut", () => {
  const whole = new EventParser();
  assert.deepEqual(whole.push(STREAM), MESSAGES);
  assert.equal(whole.retry, 2000);
  assert.equal(whole.lastEventId, "evt_1");
  for (let size = 1; size < STREAM.length; size += 1) {
    const parser = new EventParser();
    const pieces = [];
    for (let at = 0; at < STREAM.length; at += size) pieces.push(STREAM.slice(at, at + size));
    assert.deepEqual(pieces.flatMap((piece) => parser.push(piece)), MESSAGES, `pieces of ${size}`);
  }
});

test("what is no event stream tells nothing", () => {
  for (const garbage of ["<html>\n\n<p>502</p>\n\n", "\0\u{1f600}\n\n", "retry: soon\n\n", ":\n:\n\n"]) {
    const parser = new EventParser();
    assert.deepEqual(parser.push(garbage), []);
    assert.equal(parser.retry, undefined);
  }
});

test("a message without an end is given up", () => {
  const parser = new EventParser();
  const push = () => {
    for (let n = 0; n < 5; n += 1) parser.push("x".repeat(300_000));
  };
  assert.throws(push, RangeError);
});
