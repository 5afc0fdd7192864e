import type { Action, ChangeOf, JobEvent, JobWatch, Labels, Phase, Snapshot, WatchOptions } from "./index.js";

export interface ProgressEventMap {
  "needs-user": CustomEvent<ChangeOf<"needs-user">>;
  delayed: CustomEvent<ChangeOf<"delayed">>;
  settled: CustomEvent<ChangeOf<"settled">>;
  ended: CustomEvent<ChangeOf<"ended">>;
  notice: CustomEvent<ChangeOf<"notice">>;
  connection: CustomEvent<ChangeOf<"connection">>;
  error: CustomEvent<ChangeOf<"error">>;
  phase: CustomEvent<{ phase: Phase; previous: Phase }>;
  /** The button was pressed. */
  action: CustomEvent<{ action: Action; event: JobEvent }>;
}

/** `<basiq-job-progress>`. Importing this module defines it. */
export class BasiqJobProgress extends HTMLElement {
  /** The attribute `stream-url`. A new address begins a new watch. */
  streamUrl: string | null;
  /** The attribute `bank`: the bank's name, for the title. */
  bank: string | null;
  refresh: WatchOptions["refresh"];
  /** A watch that was opened elsewhere. The element shows it and does not close it. */
  get watch(): JobWatch | undefined;
  set watch(watch: JobWatch | null | undefined);
  /** Texts in place of the element's own. */
  labels: Labels;
  /** By how many milliseconds the clock of this machine is behind. */
  clockOffset: number;
  readonly snapshot: Snapshot;
  readonly phase: Phase;
  addEventListener<T extends keyof ProgressEventMap>(
    type: T,
    listener: (this: BasiqJobProgress, event: ProgressEventMap[T]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener<T extends keyof HTMLElementEventMap>(
    type: T,
    listener: (this: BasiqJobProgress, event: HTMLElementEventMap[T]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "basiq-job-progress": BasiqJobProgress;
  }
}
