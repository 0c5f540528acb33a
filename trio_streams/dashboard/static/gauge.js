// A part of a window, as a bar with its figures.

import {el, setAttribute, setText} from "./dom.js";

export function drawGauge(cell, parts) {
  while (cell.children.length > parts.length) cell.lastElementChild.remove();
  parts.forEach((part, index) => drawPart(cell.children[index] ?? cell.appendChild(makeGauge()), part));
}

function makeGauge() {
  return el("div", {class: "gauge", role: "meter", "aria-valuemin": "0"}, el("span", {class: "fill"}), el("span", {class: "figures"}));
}

// part: {used, whole, label, kind, text?}
function drawPart(gauge, {used, whole, label, kind, text = `${used}/${whole}`}) {
  const [fill, figures] = gauge.children;
  const share = whole > 0 ? Math.min(1, used / whole) : 0;
  fill.style.width = `${(share * 100).toFixed(1)}%`;
  setText(figures, text);
  setAttribute(gauge, "data-kind", kind);
  setAttribute(gauge, "data-full", String(share > 0.95));
  setAttribute(gauge, "aria-valuenow", String(Math.min(used, whole)));
  setAttribute(gauge, "aria-valuemax", String(whole));
  setAttribute(gauge, "aria-label", label);
  setAttribute(gauge, "aria-valuetext", text);
  setAttribute(gauge, "title", `${label}: ${text}`);
}
