// The page of procedures: what there is, and a form to use it.

import {$, el, setState, setText} from "./dom.js";
import {Listing} from "./listing.js";
import {Trial} from "./trial.js";
import {Types} from "./schema.js";

const RETRY_MS = 1000;

async function fetchCatalogue() {
  for (;;) {
    try {
      const answer = await fetch("catalogue", {cache: "no-store"});
      if (answer.ok) return await answer.json();
    } catch {
      // The pill says that the server is away; here it is only asked again.
    }
    setState($("state"), "lost", "reconnecting");
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

function facts({content_type: contentType, metadata}) {
  const pairs = [...(contentType ? [["content type", contentType]] : []), ...Object.entries(metadata)];
  return pairs.map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, typeof value === "string" ? value : JSON.stringify(value))),
  );
}

function example({description, input, output}, use) {
  const button = el("button", {type: "button"}, "Fill in");
  button.addEventListener("click", () => use(input));
  const parts = [...(input === null ? [] : [JSON.stringify(input)]), ...(output === null ? [] : [`→ ${JSON.stringify(output)}`])];
  return el("div", {class: "example"}, el("p", {}, el("span", {}, description || "Example"), ...(input === null ? [] : [button])), el("pre", {}, parts.join("\n")));
}

class Page {
  constructor({title, procedures, schemas, documents}) {
    this.types = new Types(schemas);
    this.trial = new Trial(this.types);
    this.byName = new Map(procedures.map((procedure) => [procedure.name, procedure]));
    this.listing = new Listing(procedures);
    setText($("title"), title);
    document.title = `${title} procedures`;
    $("documents").hidden = documents.length === 0;
    $("documents").replaceChildren(...documents.map((path) => el("a", {href: `../${path}`}, path.split("/").pop())));
    addEventListener("hashchange", () => this.follow());
    this.follow();
    setState($("state"), "live", "ready");
  }

  // The address says which procedure is shown.
  follow() {
    const name = decode(location.hash.slice(1));
    const procedure = this.byName.get(name);
    for (const id of ["about", "try", "elsewhere"]) $(id).hidden = !procedure;
    $("none").hidden = Boolean(procedure);
    setText($("none"), name ? `There is no procedure “${name}”.` : "Choose a procedure.");
    this.listing.mark(name);
    if (procedure) this.show(procedure);
    else this.trial.leave();
  }

  show(procedure) {
    setText($("name"), procedure.name);
    setText($("kind"), procedure.kind);
    setText($("description"), procedure.description);
    $("facts").replaceChildren(...facts(procedure));
    const isMany = {client: ["Items in", "Result"], bidirectional: ["Items in", "Items out"], server: ["Input", "Items"]};
    const [input, output] = isMany[procedure.kind] ?? ["Input", "Result"];
    setText($("input-title"), input + (procedure.is_input_optional ? ", may be left out" : ""));
    setText($("output-title"), output);
    $("input-schema").replaceChildren(this.types.draw(procedure.input));
    $("output-schema").replaceChildren(this.types.draw(procedure.output));
    this.trial.show(procedure);
    $("examples").replaceChildren(...procedure.examples.map((one) => example(one, (value) => this.trial.fill(value))));
  }
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input, select, textarea");
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    $("filter").focus();
  }
});

new Page(await fetchCatalogue());
