// Follows a Basiq job from a browser. Touches no document, so it also loads on a server.

export { EventParser } from "./sse.js";
export { INITIAL, applyMessage, applyWatch, phaseOf } from "./state.js";
export { LOCALES, createTexts, nearestLocale } from "./texts.js";
export { JobWatch, watchJob } from "./watch.js";
