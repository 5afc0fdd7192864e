// Keeps what is known of a job. Pure: a snapshot and a message give the next snapshot and the list of changes.

/** What is known before the first message. */
export const INITIAL = Object.freeze({ state: null, steps: [], secondsLeft: null, event: null, sequence: 0, ended: false });

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const text = (value) => (typeof value === "string" ? value : null);
const list = (value) => (Array.isArray(value) ? value : []);
const time = (value) => (Number.isNaN(Date.parse(text(value) ?? "")) ? null : value);

/** The phase that a page shows. A state that this version does not know counts as running. */
export function phaseOf({ state, steps, event, ended }) {
  if (event?.final) return ["success", "failed"].includes(event.status) ? event.status : "ended";
  if (ended) return state === "settled" ? outcomeOf(steps) : "ended";
  if (state === "awaiting-user") return "needs-user";
  if (state === "delayed") return "delayed";
  return state === null ? "connecting" : "running";
}

/** A watch may leave out the event of its end (`events` of `POST /watch`). The steps then tell how it ended. */
function outcomeOf(steps) {
  if (steps.some(({ status }) => status === "failed")) return "failed";
  const isDone = ({ status }) => status === "success" || status === "skipped";
  return steps.length > 0 && steps.every(isDone) ? "success" : "ended";
}

/** Applies a message of the stream. A message that cannot be read changes nothing, and is told as `error`. */
export function applyMessage(snapshot, { event: name, data }) {
  let body;
  try {
    body = JSON.parse(data);
  } catch {
    // told below, as any other value that is no object
  }
  if (!isObject(body)) return { snapshot, changes: [unreadable(name)] };
  if (name === "progress") return applyProgress(snapshot, body);
  if (name === "end") return applyEnd(snapshot, body);
  if (/^(job|notice)\./.test(name)) return applyEvent(snapshot, body);
  return { snapshot, changes: [] };
}

/** Applies what a backend answers from `GET /watch/{id}`: `state`, `steps`, `events`, each optional. */
export function applyWatch(snapshot, watch) {
  let result = applyProgress(snapshot, { estimatedSecondsLeft: snapshot.secondsLeft, steps: snapshot.steps, ...watch });
  const add = (next) => (result = { snapshot: next.snapshot, changes: [...result.changes, ...next.changes] });
  for (const event of list(watch.events)) if (isObject(event)) add(applyEvent(result.snapshot, event));
  const isOver = watch.state === "settled" || watch.state === "cancelled";
  return isOver ? add(applyEnd(result.snapshot, watch)) : result;
}

const unreadable = (name) => ({ type: "error", code: "unreadable", fatal: false, name });

function applyProgress(before, body) {
  const steps = list(body.steps).filter(isObject);
  const left = body.estimatedSecondsLeft;
  const snapshot = {
    ...before,
    state: text(body.state) ?? before.state ?? "watching",
    steps: steps.map(({ title, status }) => ({ title: text(title) ?? "", status: text(status) ?? "pending" })),
    secondsLeft: typeof left === "number" && left >= 0 ? left : null,
  };
  // a question is over when the watch no longer waits for the person
  if (snapshot.state !== "awaiting-user" && before.event?.status === "action-required") snapshot.event = null;
  const changes = [];
  if (snapshot.state !== before.state) changes.push({ type: "state", state: snapshot.state });
  snapshot.steps.forEach((step, index) => {
    const old = before.steps[index];
    if (old?.title !== step.title || old.status !== step.status) changes.push({ type: "step", index, step });
  });
  // told each time, since it counts from now
  if (snapshot.secondsLeft !== null || before.secondsLeft !== null) changes.push({ type: "eta", secondsLeft: snapshot.secondsLeft });
  return { snapshot, changes };
}

function applyEvent(before, body) {
  const event = readEvent(body);
  if (body.type?.startsWith?.("notice.")) return { snapshot: before, changes: [{ type: "notice", event }] };
  if (isOld(event, before)) return { snapshot: before, changes: [] };
  const snapshot = { ...before, sequence: event.sequence ?? before.sequence };
  const type = typeOf(event);
  // a question of the past: a stream repeats all events
  if (type === "needs-user" && before.state !== "awaiting-user") return { snapshot, changes: [] };
  return { snapshot: { ...snapshot, event }, changes: [{ type, event }] };
}

/** Whether an event was told before: a stream that begins anew repeats them. A poll may have told it without its question. */
function isOld({ sequence, challenge }, before) {
  const isLatest = sequence === before.sequence && challenge && !before.event?.challenge;
  return sequence !== null && sequence <= before.sequence && !isLatest;
}

function typeOf({ status, final }) {
  if (final) return "settled";
  if (status === "action-required") return "needs-user";
  return status === "delayed" || status === "failed" ? "delayed" : "event";
}

/** Reads an event. Each known field gets its type or null; fields of a newer relay stay as they are. */
function readEvent(body) {
  const { status, action, userMessage, retryAt, challenge, sequence } = body;
  return {
    ...body,
    status: text(status) ?? "unknown",
    action: text(action) ?? "none",
    userMessage: text(userMessage),
    final: body.final === true,
    retryAt: time(retryAt),
    sequence: Number.isInteger(sequence) ? sequence : null,
    challenge: isObject(challenge) ? readChallenge(challenge) : null,
  };
}

function readChallenge(challenge) {
  const { description, inputs, expiresAt } = challenge;
  return { ...challenge, description: text(description) ?? "", inputs: list(inputs).map(String), expiresAt: time(expiresAt) };
}

function applyEnd(before, { state }) {
  const snapshot = { ...before, state: text(state) ?? before.state, ended: true };
  return { snapshot, changes: before.ended || before.event?.final ? [] : [{ type: "ended", state: snapshot.state }] };
}
