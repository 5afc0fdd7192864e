// A callback: verifies each event with the official library, and gives it the type of its webhook.

import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { Webhook } from "standardwebhooks";

import type { webhooks } from "./generated/relay.js";

type Body<Name extends keyof webhooks> =
  webhooks[Name]["post"]["requestBody"]["content"]["application/json"];

/** Any event that the relay posts. */
export type RelayEvent = Body<keyof webhooks>;

/** What to do about an event: a type of event that is not handled here does not compile. */
export function told(event: RelayEvent): string {
  switch (event.type) {
    case "job.success":
      return `done: ${event.resources.length} resources`;
    case "job.failed":
      return `failed at ${event.failedStep ?? "no step"}: ${event.action}`;
    case "job.action-required":
      return `asks: ${event.challenge?.inputs.join(", ") ?? "nothing"}`;
    case "job.delayed":
      return `delayed until ${event.retryAt ?? "some time"}`;
    case "notice.consent-expiring":
    case "notice.consent-expired":
    case "notice.connection-invalid":
      return `tell the person: ${event.userMessage}`;
    case "notice.consent-revoked":
    case "notice.connection-removed":
    case "notice.user-removed":
      return `gone: ${event.errorCode}`;
    case "relay.test":
      return `tested at ${event.timestamp}`;
  }
}

/** Receives events until it is closed. */
export class Receiver {
  readonly events: RelayEvent[] = [];
  readonly #server;

  constructor(secret: string) {
    const signed = new Webhook(secret);
    this.#server = createServer(async (request, response) => {
      const body = await text(request);
      try {
        const headers = request.headers as Record<string, string>;
        this.events.push(signed.verify(body, headers) as RelayEvent);
        response.writeHead(204).end();
      } catch (error) {
        response.writeHead(401).end(String(error));
      }
    });
  }

  /** Listens, and says where. */
  async listen(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    const { port } = this.#server.address() as AddressInfo;
    return `http://127.0.0.1:${port}/hooks/bank`;
  }

  /** The first event. */
  async first(): Promise<RelayEvent> {
    for (let tries = 0; tries < 600; tries += 1) {
      const event = this.events[0];
      if (event) return event;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error("no event came within a minute");
  }

  close(): void {
    this.#server.close();
  }
}
