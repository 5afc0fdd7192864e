// A frontend in TypeScript that uses all of basiq-job-progress: compiled against its types, and never run.

import { type Change, type ChangeOf, type JobEvent, type Phase, type Snapshot, type WatchAnswer } from "basiq-job-progress";
import { EventParser, INITIAL, JobWatch, LOCALES, applyMessage, applyWatch, createTexts } from "basiq-job-progress";
import { nearestLocale, phaseOf, watchJob } from "basiq-job-progress";
import { BasiqJobProgress } from "basiq-job-progress/element";

const say = (text: string | null | number): void => console.log(text);

async function refresh({ signal }: { signal: AbortSignal }): Promise<WatchAnswer | null> {
  const answer = await fetch("/api/watch", { signal });
  return answer.status === 404 ? null : ((await answer.json()) as WatchAnswer);
}

/** The compiler finds a type of change that is left out. */
function tell(change: Change): void {
  switch (change.type) {
    case "state":
      return say(change.state);
    case "step":
      return say(`${change.index} ${change.step.title} ${change.step.status}`);
    case "eta":
      return say(change.secondsLeft);
    case "needs-user":
      return say(change.event.challenge?.inputs.join() ?? null);
    case "delayed":
    case "settled":
    case "event":
    case "notice":
      return say(change.event.userMessage);
    case "ended":
      return say(change.state);
    case "connection":
      return say(change.connected ? "found" : "lost");
    case "error":
      return say(`${change.code} ${change.fatal} ${String(change.cause)} ${change.name ?? ""}`);
    default:
      return change satisfies never;
  }
}

const watch: JobWatch = watchJob({ streamUrl: "https://relay.example/watch/wch_1/stream", refresh, pollInterval: 1000 });
watch.addEventListener("settled", ({ detail }) => say(detail.event.action));
watch.addEventListener("change", ({ detail }) => detail.changes.forEach(tell));
for await (const change of watch) tell(change);
const last: Snapshot = await watch.done;
const event: JobEvent | null = last.event;
const phase: Phase = watch.phase;
say(event?.retryAt ?? phase);

const element: BasiqJobProgress = document.createElement("basiq-job-progress");
element.refresh = refresh;
element.labels = { failed: "It did not work" };
element.bank = "Hooli Bank";
element.streamUrl = null;
element.watch = watch;
element.clockOffset = 1000;
element.addEventListener("action", ({ detail }) => say(detail.action === "retry" ? detail.event.retryAt : detail.action));
element.addEventListener("settled", ({ detail }: CustomEvent<ChangeOf<"settled">>) => say(detail.event.status));
element.addEventListener("error", ({ detail }) => say(detail.code));
element.addEventListener("click", ({ clientX }) => say(clientX));
document.querySelector("basiq-job-progress")?.focus();
say(phaseOf(element.snapshot));

const parser = new EventParser();
const messages = parser.push("event: progress\ndata: {}\n\n");
const { snapshot } = messages.map((message) => applyMessage(INITIAL, message))[0] ?? applyWatch(INITIAL, { state: "watching" });
const texts = createTexts(nearestLocale(navigator.languages), { retry: "Once more" });
say(texts.text("running", { bank: "Hooli" }) + LOCALES.join() + String(snapshot.sequence));

// @ts-expect-error: an event is what the relay tells, not any name
watch.addEventListener("settled", ({ detail }) => say(detail.secondsLeft));
// @ts-expect-error: `refresh` answers an address, a watch or null
watchJob({ refresh: () => 5 });
// @ts-expect-error: a snapshot does not change
last.sequence = 3;
