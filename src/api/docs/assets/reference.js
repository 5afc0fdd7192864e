// Shows the OpenAPI document with Scalar, whose script comes after this one. Nothing is asked of any other address.
"use strict";
(() => {
  // Without this, a library in Scalar tries whether code can be compiled, which the policy forbids.
  globalThis.__zod_globalConfig = { jitless: true };

  // The policy admits only style elements with the page's nonce. Scalar gives it to its first one, this to the rest.
  const nonce = document.querySelector("meta[property=csp-nonce]").content;
  const create = Document.prototype.createElement;
  Document.prototype.createElement = function createElement(...given) {
    const element = create.apply(this, given);
    if (element instanceof HTMLStyleElement) element.nonce = nonce;
    return element;
  };

  const METHODS = ["get", "post", "delete"];
  const operations = (items) =>
    Object.values(items).flatMap((item) => METHODS.map((method) => item[method]).filter(Boolean));

  /** Adapts the document to how Scalar reads it. */
  function adapt(spec) {
    for (const tag of spec.tags) tag["x-displayName"] = tag.name[0].toUpperCase() + tag.name.slice(1);
    // Scalar hides what is internal. Webhooks are marked so that generated clients leave them out.
    for (const webhook of operations(spec.webhooks)) delete webhook["x-internal"];
    const calls = operations(spec.paths);
    // Samples and requests from the page begin without what is optional.
    for (const parameter of calls.flatMap((call) => call.parameters ?? [])) {
      if (parameter.required) continue;
      parameter.examples = { default: { value: parameter.example, "x-disabled": true } };
      delete parameter.example;
    }
    for (const call of [...calls, ...operations(spec.webhooks)]) {
      for (const message of [call.requestBody, ...Object.values(call.responses)]) sortExamples(message, spec);
    }
    return spec;
  }

  /** Sorts the examples of a request or an answer as their schema does, for the document has keys in alphabetical order. */
  function sortExamples(message, spec) {
    for (const media of Object.values(message?.content ?? {})) {
      if ("example" in media) media.example = sorted(media.example, media.schema, spec);
      for (const one of Object.values(media.examples ?? {})) one.value = sorted(one.value, media.schema, spec);
    }
  }

  function sorted(value, schema, spec) {
    if (value === null || typeof value !== "object") return value;
    if (Array.isArray(value)) {
      const items = parts(schema, spec).map((part) => part.items).find(Boolean);
      return value.map((item) => sorted(item, items, spec));
    }
    const properties = Object.assign({}, ...parts(schema, spec).map((part) => part.properties));
    const names = new Set([...Object.keys(properties).filter((name) => name in value), ...Object.keys(value)]);
    return Object.fromEntries([...names].map((name) => [name, sorted(value[name], properties[name], spec)]));
  }

  /** A schema, and those that it refers to or is put together from. */
  function parts(schema, spec) {
    if (!schema) return [];
    const named = schema.$ref && spec.components.schemas[schema.$ref.split("/").pop()];
    const more = [named, ...(schema.allOf ?? []), ...(schema.oneOf ?? []), ...(schema.anyOf ?? [])];
    return [schema, ...more.filter(Boolean).flatMap((part) => parts(part, spec))];
  }

  /** What Scalar's elements lack for people who use a screen reader or a keyboard: which, the attribute and its value. */
  const LACKING = [
    ["button[role=none]", "role", null],
    ["[role=combobox][contenteditable]:not([aria-expanded])", "aria-expanded", "false"],
    ["[role=textbox]:not([aria-label])", "aria-label", "Code"],
    [".cm-scroller:not([tabindex='0'])", "tabindex", "0"],
    ["button[aria-label='Copy code'][aria-controls]", "aria-controls", null],
    // the page around Scalar has a banner, and the dialog for requests has landmarks of that page once more
    ["#reference header:not([role])", "role", "region"],
    ["#reference header:not([aria-label])", "aria-label", "Menu"],
    ["[role=dialog] main:not([role])", "role", "presentation"],
    ["[role=dialog] > section[aria-label='Notifications alt+T']", "aria-label", "Notifications of requests, alt+T"],
  ];

  function mend() {
    for (const [selector, attribute, value] of LACKING) {
      for (const element of document.querySelectorAll(selector)) {
        if (value === null) element.removeAttribute(attribute);
        else element.setAttribute(attribute, value);
      }
    }
  }

  const settings = {
    title: "basiq-relay",
    theme: "none",
    withDefaultFonts: false,
    // the key that somebody types lives as long as the page
    persistAuth: false,
    authentication: { preferredSecurityScheme: "apiKey" },
    defaultHttpClient: { targetKey: "shell", clientKey: "curl" },
    featuredClients: ["shell/curl", "js/fetch", "python/requests"],
    modelsSectionLabel: "Schemas",
    orderSchemaPropertiesBy: "preserve",
    documentDownloadType: "none",
    // what would lead to services of Scalar's
    telemetry: false,
    hideClientButton: true,
    showDeveloperTools: "never",
    agent: { disabled: true },
    mcp: { disabled: true },
    externalUrls: { dashboardUrl: "", registryUrl: "", proxyUrl: "", apiBaseUrl: "" },
  };

  async function start() {
    const place = document.getElementById("reference");
    place.className = "wait";
    place.textContent = "Loading the reference…";
    try {
      const answer = await fetch("/openapi.json");
      if (!answer.ok) throw new Error(`/openapi.json is answered with ${answer.status}`);
      const content = adapt(await answer.json());
      // in a place with content, Scalar would look for what a server had rendered
      place.replaceChildren();
      place.className = "";
      new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
      Scalar.createApiReference(place, { ...settings, content });
    } catch (error) {
      place.className = "wait";
      place.textContent = `The reference cannot be shown: ${error.message}. Load the page again.`;
    }
  }

  // deferred scripts have run by then
  document.addEventListener("DOMContentLoaded", start);
})();
