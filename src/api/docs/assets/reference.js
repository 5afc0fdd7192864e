// Shows the OpenAPI document with Scalar, whose script comes after this one. Nothing is asked of any other address.
"use strict";
(() => {
  // Without this, a library in Scalar tries whether code can be compiled, which the policy forbids.
  globalThis.__zod_globalConfig = { jitless: true };

  // The policy admits only style elements with the page's nonce. Scalar gives it to its first one; the rest get it here.
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
    // Scalar hides what is internal. Webhooks are marked so that generated clients leave them out.
    for (const webhook of operations(spec.webhooks)) delete webhook["x-internal"];
    // Samples and requests from the page begin without what is optional.
    for (const parameter of operations(spec.paths).flatMap((operation) => operation.parameters ?? [])) {
      if (parameter.required) continue;
      parameter.examples = { default: { value: parameter.example, "x-disabled": true } };
      delete parameter.example;
    }
    return spec;
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
    try {
      const answer = await fetch("/openapi.json");
      if (!answer.ok) throw new Error(`/openapi.json is answered with ${answer.status}`);
      const content = adapt(await answer.json());
      place.replaceChildren();
      Scalar.createApiReference(place, { ...settings, content });
    } catch (error) {
      place.textContent = `The reference cannot be shown: ${error.message}. Load the page again.`;
    }
  }

  // deferred scripts have run by then
  document.addEventListener("DOMContentLoaded", start);
})();
