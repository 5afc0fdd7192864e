"use strict";
(() => {
  const METHODS = ["get", "post", "put", "patch", "delete"];
  const content = document.getElementById("content");
  const nav = document.getElementById("nav");
  let doc = {};

  /** Makes an element; texts are always written as texts. */
  function el(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
    for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
    return node;
  }

  const follow = (thing) => thing && thing.$ref
    ? thing.$ref.replace(/^#\//, "").split("/").reduce((at, key) => at[key], doc)
    : thing;
  const refName = (thing) => thing.$ref.split("/").pop();
  const pretty = (value) => typeof value === "string" ? value : JSON.stringify(value, null, 2);

  /** The type of a schema in a few words, linked where it has a name. */
  function typeOf(schema) {
    if (!schema) return "any";
    if (schema.$ref) return el("a", { href: "#schema-" + refName(schema) }, refName(schema));
    const choices = schema.oneOf || schema.anyOf;
    if (choices) return el("span", {}, choices.flatMap((one, index) => index ? [" or ", typeOf(one)] : [typeOf(one)]));
    const type = [].concat(schema.type || "any").join(" or ");
    if (schema.items) return el("span", {}, "list of ", typeOf(schema.items));
    return type + (schema.format ? " (" + schema.format + ")" : "");
  }

  /** A field's description, which may stand with one of its choices. */
  const meaning = (field) => field.description || (field.oneOf || []).map((one) => one.description).find(Boolean) || "";

  function rules(schema) {
    const told = [];
    const words = { minimum: "from ", maximum: "to ", minLength: "at least ", maxLength: "at most ", minItems: "items: at least ", pattern: "pattern " };
    for (const [key, word] of Object.entries(words)) if (schema && schema[key] !== undefined) told.push(word + schema[key]);
    if (schema && schema.enum) told.push("one of " + schema.enum.join(", "));
    return told.join("; ");
  }

  /** The fields of an object, those of its parts included. */
  function fieldsOf(schema) {
    const parts = (schema.allOf || []).map(follow).map(fieldsOf);
    return Object.assign({ properties: {}, required: [] }, {
      properties: Object.assign({}, ...parts.map((part) => part.properties), schema.properties),
      required: parts.flatMap((part) => part.required).concat(schema.required || []),
    });
  }

  function table(heads, rows) {
    return el("table", {},
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell))))));
  }

  function schemaTable(schema) {
    const { properties, required } = fieldsOf(schema);
    const rows = Object.entries(properties).map(([name, field]) => [
      el("code", {}, name),
      el("span", {}, typeOf(field), required.includes(name) ? "" : el("span", { class: "soft" }, " optional")),
      [meaning(field), rules(field)].filter(Boolean).join(" — "),
    ]);
    if (rows.length === 0) return el("p", {}, typeOf(schema), " ", rules(schema));
    return table(["Field", "Type", "Meaning"], rows);
  }

  function examplesOf(media) {
    if (media.example !== undefined) return [["", media.example]];
    return Object.entries(media.examples || {}).map(([name, example]) => [name, follow(example).value]);
  }

  function responseBlock(status, response) {
    const inside = el("div", { class: "inside" });
    for (const [name, header] of Object.entries(response.headers || {}))
      inside.append(el("p", {}, el("code", {}, name), " ", header.description || ""));
    for (const [type, media] of Object.entries(response.content || {})) {
      inside.append(el("p", {}, el("code", {}, type), " ", media.schema ? typeOf(media.schema) : ""));
      for (const [name, value] of examplesOf(media))
        inside.append(el("p", { class: "soft" }, name), el("pre", {}, pretty(value)));
    }
    return el("details", {}, el("summary", {}, el("code", {}, status), response.description), inside);
  }

  function inputFor(parameter) {
    const schema = follow(parameter.schema) || {};
    const named = (schema.oneOf || []).map(follow).find((one) => one.enum);
    const words = schema.enum || (named && named.enum);
    const input = words
      ? el("select", { name: parameter.name }, el("option", { value: "" }, ""), words.map((word) => el("option", {}, word)))
      : el("input", { name: parameter.name, placeholder: parameter.example || "" });
    return [el("label", {}, parameter.name + (parameter.required ? " (required)" : ""), input), input];
  }

  async function send(method, path, inputs, body, output) {
    let address = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const [parameter, input] of inputs) {
      const value = input.value.trim();
      if (parameter.in === "path") address = address.replace("{" + parameter.name + "}", encodeURIComponent(value || "-"));
      else if (value && parameter.in === "header") headers[parameter.name] = value;
      else if (value) query.set(parameter.name, value);
    }
    const key = document.getElementById("key").value.trim();
    if (key) headers.authorization = "Bearer " + key;
    if (body) headers["content-type"] = "application/json";
    const search = query.size ? "?" + query : "";
    output.textContent = "…";
    try {
      const began = performance.now();
      const answer = await fetch(address.slice(1) + search, { method: method.toUpperCase(), headers, body: body ? body.value : undefined });
      const told = ["location", "etag", "retry-after", "x-request-id"].filter((name) => answer.headers.has(name));
      const head = (took) => [answer.status + " " + answer.statusText + took,
        ...told.map((name) => name + ": " + answer.headers.get(name)), "", ""].join("\n");
      if ((answer.headers.get("content-type") || "").startsWith("text/event-stream")) {
        output.textContent = head("");
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        for (let part = await reader.read(); !part.done; part = await reader.read()) output.textContent += part.value;
        return;
      }
      const text = await answer.text();
      let shown = text;
      try { shown = pretty(JSON.parse(text)); } catch { /* not JSON: shown as it is */ }
      output.textContent = head(" (" + Math.round(performance.now() - began) + " ms)") + shown;
    } catch (error) {
      output.textContent = "No answer: " + error.message;
    }
  }

  function tryForm(method, path, operation, parameters) {
    const inputs = parameters.map((parameter) => [parameter, ...inputFor(parameter)]);
    const media = operation.requestBody && follow(operation.requestBody).content["application/json"];
    const body = media ? el("textarea", { "aria-label": "Body", spellcheck: "false" }) : null;
    if (body) body.value = pretty((examplesOf(media)[0] || ["", {}])[1]);
    const output = el("pre", { "aria-live": "polite", hidden: "" });
    const button = el("button", { type: "button" }, "Send");
    button.addEventListener("click", () => {
      output.hidden = false;
      send(method, path, inputs.map(([parameter, , input]) => [parameter, input]), body, output);
    });
    return el("div", {}, el("h4", {}, "Try it"),
      el("div", { class: "form" }, inputs.map(([, label]) => label)), body, button, output);
  }

  function callBlock(path, method, operation, canTry) {
    const parameters = (operation.parameters || []).map(follow);
    const inside = el("div", { class: "inside" });
    if (operation.description) inside.append(el("p", {}, operation.description));
    const scheme = (operation.security || []).flatMap(Object.keys)[0];
    inside.append(el("p", { class: "soft" }, scheme ? "Needs: " + scheme : "Needs no key"));
    if (parameters.length) inside.append(el("h4", {}, "Parameters"), table(["Name", "In", "Type", "Meaning"],
      parameters.map((one) => [el("code", {}, one.name), one.in, typeOf(one.schema), one.description || ""])));
    const body = operation.requestBody && follow(operation.requestBody).content["application/json"];
    if (body) {
      inside.append(el("h4", {}, "Body"), schemaTable(follow(body.schema)));
      for (const [, value] of examplesOf(body)) inside.append(el("pre", {}, pretty(value)));
    }
    inside.append(el("h4", {}, "Answers"));
    for (const [status, response] of Object.entries(operation.responses)) inside.append(responseBlock(status, follow(response)));
    if (canTry) inside.append(tryForm(method, path, operation, parameters));
    const heading = el("h3", {}, operation.summary || operation.operationId);
    return el("section", { class: "call", id: operation.operationId }, el("details", {},
      el("summary", {}, el("span", { class: "method " + method }, method.toUpperCase()), el("code", {}, path), heading), inside));
  }

  function callsOf(paths) {
    return Object.entries(paths || {}).flatMap(([path, item]) =>
      METHODS.filter((method) => item[method]).map((method) => [path, method, item[method]]));
  }

  function group(title, description, blocks) {
    nav.append(el("strong", {}, title));
    content.append(el("h2", {}, title), el("p", {}, description || ""));
    for (const [label, block] of blocks) {
      nav.append(el("a", { href: "#" + block.id }, label));
      content.append(block);
    }
  }

  function problems(schema) {
    const list = (schema && schema.properties.type.enum) || [];
    content.append(el("h2", {}, "Problems"), el("p", {}, "Each error is a problem of one of these types; its status and a full example stand with the calls that answer it."));
    for (const type of list) content.append(el("p", { id: "problem-" + type.split("/").pop() }, el("code", {}, type)));
    nav.append(el("strong", {}, el("a", { href: "#problem-" + (list[0] || "").split("/").pop() }, "Problems")));
  }

  function render() {
    content.replaceChildren(el("p", {}, doc.info.description || ""), el("p", { class: "soft" }, "Version " + doc.info.version + ", OpenAPI " + doc.openapi));
    document.getElementById("title").textContent = doc.info.title + " API";
    const calls = callsOf(doc.paths);
    for (const tag of doc.tags || []) {
      const mine = calls.filter(([, , operation]) => (operation.tags || []).includes(tag.name));
      group(tag.name, tag.description, mine.map(([path, method, operation]) => [operation.summary, callBlock(path, method, operation, true)]));
    }
    group("webhooks", "What the relay posts to a callback.", callsOf(doc.webhooks).map(([name, method, operation]) =>
      [operation.summary, callBlock(name, method, operation, false)]));
    const schemas = Object.entries((doc.components || {}).schemas || {});
    problems(((doc.components || {}).schemas || {}).Problem);
    group("schemas", "", schemas.map(([name, schema]) => [name, el("section", { class: "schema", id: "schema-" + name },
      el("details", {}, el("summary", {}, el("h3", {}, name)), el("div", { class: "inside" }, el("p", {}, schema.description || ""), schemaTable(schema))))]));
  }

  /** Opens what the address points at. */
  function reveal() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target) return;
    const details = target.querySelector("details");
    if (details) details.open = true;
    target.scrollIntoView();
  }

  fetch("openapi.json").then((answer) => answer.json()).then((json) => {
    doc = json;
    render();
    reveal();
    addEventListener("hashchange", reveal);
  }).catch((error) => content.replaceChildren(el("p", {}, "The document could not be read: " + error.message)));
})();
