// Verifies what the relay posts: Standard Webhooks, with nothing but Node. Any of its libraries does the same.

import { createHmac, timingSafeEqual } from "node:crypto";

/** How old a webhook may be, in seconds, so that one that was overheard cannot be sent again later. */
const TOLERANCE = 5 * 60;

/** Whether a body, byte for byte as it came, was signed with that secret just now. */
export function isSigned(secret, headers, body) {
  const { "webhook-id": id, "webhook-timestamp": time, "webhook-signature": signatures = "" } = headers;
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const right = createHmac("sha256", key).update(`${id}.${time}.`).update(body).digest();
  const isRight = (text) => {
    const given = Buffer.from(text.replace(/^v1,/, ""), "base64");
    return text.startsWith("v1,") && given.length === right.length && timingSafeEqual(given, right);
  };
  const isTimely = Math.abs(Date.now() / 1000 - Number(time)) < TOLERANCE;
  // there are two signatures while a secret is being replaced
  return isTimely && signatures.split(" ").some(isRight);
}
