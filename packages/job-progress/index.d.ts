/** The state of a watch. A newer relay may know others. */
export type WatchState = "watching" | "awaiting-user" | "delayed" | "settled" | "cancelled" | (string & {});

/** What a page shows. `connecting` is before the first message; `ended` is an end without an outcome. */
export type Phase = "connecting" | "running" | "needs-user" | "delayed" | "success" | "failed" | "ended";

export type Status = "success" | "failed" | "action-required" | "delayed" | (string & {});

export type Action =
  | "none"
  | "answer-mfa"
  | "resubmit-credentials"
  | "resolve-at-bank"
  | "reauthorise"
  | "provide-statement"
  | "wait"
  | "wait-for-bank"
  | "retry"
  | "contact-support"
  | "fix-request"
  | (string & {});

export interface Step {
  title: string;
  status: "pending" | "in-progress" | "success" | "failed" | "skipped" | (string & {});
}

/** What a bank asks of the person. */
export interface Challenge {
  method?: string;
  description: string;
  inputs: string[];
  /** RFC 3339. */
  expiresAt: string | null;
  respondTo?: string;
}

/** An event of the relay, as the callback gets it. In a watch that was polled, fields may be missing. */
export interface JobEvent {
  status: Status;
  action: Action;
  /** Plain words for the person, in the language of the watch. */
  userMessage: string | null;
  final: boolean;
  /** RFC 3339. */
  retryAt: string | null;
  sequence: number | null;
  challenge: Challenge | null;
  type?: string;
  timestamp?: string;
  watchId?: string | null;
  jobId?: string | null;
  failedStep?: string | null;
  errorCode?: string | null;
  detail?: string | null;
  context?: {
    jobType: string | null;
    userId: string | null;
    connectionId: string | null;
    institutionId: string | null;
    subscriptionId: string | null;
  };
  resources?: string[];
  metadata?: Record<string, unknown>;
}

/** What is known of a job. Each change makes a new one. */
export interface Snapshot {
  readonly state: WatchState | null;
  readonly steps: readonly Step[];
  /** Half of such jobs end within so many seconds of the last message. */
  readonly secondsLeft: number | null;
  readonly event: JobEvent | null;
  readonly sequence: number;
  readonly ended: boolean;
}

export interface StateChange {
  type: "state";
  state: WatchState;
}
export interface StepChange {
  type: "step";
  index: number;
  step: Step;
}
export interface EtaChange {
  type: "eta";
  secondsLeft: number | null;
}
/** The person has to answer: `event.challenge`. */
export interface NeedsUserChange {
  type: "needs-user";
  event: JobEvent;
}
/** It takes longer; the relay goes on. */
export interface DelayedChange {
  type: "delayed";
  event: JobEvent;
}
/** The final event: what became of the job, and what to do next. */
export interface SettledChange {
  type: "settled";
  event: JobEvent;
}
/** A status that this version does not know. */
export interface OtherEventChange {
  type: "event";
  event: JobEvent;
}
export interface NoticeChange {
  type: "notice";
  event: JobEvent;
}
/** The watch ended without a final event: it was cancelled, or its `events` leave that one out. */
export interface EndedChange {
  type: "ended";
  state: WatchState | null;
}
/** The stream has been away for more than 4.5 seconds, or is back. */
export interface ConnectionChange {
  type: "connection";
  connected: boolean;
}
/** `expired` and `gone` end the watch: the address is too old and there is no `refresh`, or `refresh` returned null. */
export interface ErrorChange {
  type: "error";
  code: "expired" | "gone" | "refresh" | "unreadable";
  fatal: boolean;
  /** What `refresh` threw. */
  cause?: unknown;
  /** The name of the message that could not be read. */
  name?: string;
}

export type Change =
  | StateChange
  | StepChange
  | EtaChange
  | NeedsUserChange
  | DelayedChange
  | SettledChange
  | OtherEventChange
  | NoticeChange
  | EndedChange
  | ConnectionChange
  | ErrorChange;

/** The change of a type. */
export type ChangeOf<T extends Change["type"]> = Extract<Change, { type: T }>;

/** The answer of `GET /watch/{id}`, or a part of it. With `state` it also serves as a poll. */
export interface WatchAnswer {
  streamUrl?: string | URL;
  state?: WatchState;
  steps?: readonly Step[];
  events?: readonly object[];
}

export interface WatchOptions {
  /** What the relay answered as `streamUrl`. Without it, `refresh` is asked first. */
  streamUrl?: string | URL | null | undefined;
  /** Asks your backend for another address: the address, an answer of `GET /watch/{id}`, or null to give up. */
  refresh?: ((options: { signal: AbortSignal }) => Refreshed | Promise<Refreshed>) | undefined;
  signal?: AbortSignal | undefined;
  /** What a relative `streamUrl` is relative to; the page by default. */
  baseUrl?: string | URL | undefined;
  /** Milliseconds between polls where streams do not get through; 5000 by default. */
  pollInterval?: number | undefined;
  /** In place of the global `fetch`. */
  fetch?: typeof fetch | undefined;
}

export type Refreshed = string | URL | WatchAnswer | null;

export type WatchEventMap = { [T in Change["type"]]: CustomEvent<ChangeOf<T>> } & {
  /** After all changes of one message. */
  change: CustomEvent<{ changes: Change[]; snapshot: Snapshot }>;
};

/** Follows a job until it has ended. */
export class JobWatch extends EventTarget implements AsyncIterable<Change> {
  constructor(options: WatchOptions);
  readonly snapshot: Snapshot;
  readonly phase: Phase;
  readonly closed: boolean;
  /** Resolves to the last snapshot when nothing more will come. Never rejects. */
  readonly done: Promise<Snapshot>;
  close(): void;
  /** Yields each change. Leaving the loop closes the watch. */
  [Symbol.asyncIterator](): AsyncGenerator<Change, void, undefined>;
  addEventListener<T extends keyof WatchEventMap>(
    type: T,
    listener: (this: JobWatch, event: WatchEventMap[T]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** Follows the watch at `streamUrl`. */
export function watchJob(options: WatchOptions): JobWatch;

/** What is known before the first message. */
export const INITIAL: Snapshot;

/** A message of a stream of server-sent events. */
export interface StreamMessage {
  event: string;
  data: string;
  lastEventId: string;
}

export interface Applied {
  snapshot: Snapshot;
  changes: Change[];
}

/** Applies a message of the stream. */
export function applyMessage(snapshot: Snapshot, message: Pick<StreamMessage, "event" | "data">): Applied;

/** Applies an answer of `GET /watch/{id}`. */
export function applyWatch(snapshot: Snapshot, watch: WatchAnswer): Applied;

export function phaseOf(snapshot: Snapshot): Phase;

/** Parses server-sent events. */
export class EventParser {
  lastEventId: string;
  retry: number | undefined;
  push(text: string): StreamMessage[];
}

/** The languages there are. */
export const LOCALES: readonly string[];

/** Texts by their keys, as in `texts.js`. */
export type Labels = Readonly<Record<string, string>>;

export interface Texts {
  locale: string;
  dir: "ltr" | "rtl";
  has(key: string): boolean;
  text(key: string, values?: Record<string, string>): string;
  /** `7 seconds`. */
  inWords(seconds: number): string;
  /** `1:05`. */
  asClock(seconds: number): string;
}

/** The first of these languages that there is; `en` if there is none. */
export function nearestLocale(wanted: Iterable<string>): string;

export function createTexts(wanted: string, labels?: Labels): Texts;
