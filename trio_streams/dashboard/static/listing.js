// The names of all procedures, under the first part of each, filtered by what is typed.

import {$, el, setText} from "./dom.js";

const group = (name) => (name.includes(".") && !name.startsWith("[") ? name.split(".", 1)[0] : "");

export class Listing {
  constructor(procedures) {
    this.procedures = procedures;
    this.current = "";
    $("filter").addEventListener("input", () => this.draw());
    $("filter").addEventListener("keydown", (event) => this.onFilterKey(event));
    $("names").addEventListener("keydown", (event) => this.onListKey(event));
    this.draw();
  }

  mark(name) {
    this.current = name;
    for (const link of this.links()) this.markLink(link);
  }

  markLink(link) {
    if (link.dataset.name === this.current) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }

  links() {
    return [...$("names").querySelectorAll("a")];
  }

  draw() {
    const wanted = $("filter").value.trim().toLowerCase();
    const found = this.procedures.filter(({name, kind, description}) => `${name} ${kind} ${description}`.toLowerCase().includes(wanted));
    const groups = groupBy(found);
    const parts = [...groups].sort(([a], [b]) => a.localeCompare(b)).flatMap(([title, members]) => [
      ...(title ? [el("h3", {}, title)] : []),
      el("ul", {}, ...members.map((procedure) => el("li", {}, this.makeLink(procedure)))),
    ]);
    $("names").replaceChildren(...parts);
    setText($("list-note"), wanted ? `${found.length} of ${this.procedures.length}` : String(found.length));
  }

  makeLink({name, kind, description}) {
    const badge = el("span", {class: "badge", "data-state": "kind"}, kind);
    const link = el("a", {href: `#${encodeURIComponent(name)}`, "data-name": name, title: description || null}, el("span", {}, name), badge);
    this.markLink(link);
    // From here on Tab leads through the procedure, and on a narrow screen it is in view.
    link.addEventListener("click", () => $("detail").focus());
    return link;
  }

  onFilterKey(event) {
    if (event.key === "Escape") {
      event.target.value = "";
      this.draw();
    } else if (event.key === "ArrowDown" || event.key === "Enter") {
      event.preventDefault();
      this.links()[0]?.focus();
    }
  }

  onListKey(event) {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (!step) return;
    event.preventDefault();
    const links = this.links();
    const next = links[links.indexOf(document.activeElement) + step];
    (next ?? (step < 0 ? $("filter") : null))?.focus();
  }
}

function groupBy(procedures) {
  const groups = new Map();
  for (const procedure of procedures) {
    const title = group(procedure.name);
    groups.set(title, [...(groups.get(title) ?? []), procedure]);
  }
  return groups;
}
