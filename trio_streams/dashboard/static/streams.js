// The table of streams: what each does, how much of its windows is used, and how it went in the last seconds.

import {$, el, setAttribute, setText} from "./dom.js";
import * as format from "./format.js";
import {drawGauge} from "./gauge.js";
import {drawSpark} from "./plot.js";
import {LiveTable} from "./table.js";

const LINGER_MS = 4000;
const PLACES = 48;

const queue = (row) => row.queued_items + row.buffered_items;

function state(row) {
  if (row.isOver) return "ended";
  if (row.is_held || (row.credit_items === 0 && row.queued_items > 0)) return "held";
  const halves = [row.out, row.into];
  return ["errored", "open", "closing"].find((name) => halves.includes(name)) ?? "ended";
}

function drawState(cell, row) {
  const text = state(row);
  const badge = cell.firstElementChild ?? cell.appendChild(el("span", {class: "badge"}));
  setAttribute(badge, "data-state", text);
  setText(badge, text);
}

function windows(row) {
  const parts = [];
  if (row.credit_window_items > 0) {
    const used = Math.max(0, row.credit_window_items - row.credit_items);
    parts.push({used, whole: row.credit_window_items, label: "Credit used of the peer's window, items", kind: "out"});
  } else if (row.credit_items === 0 && row.is_held) {
    parts.push({used: 1, whole: 1, text: "no credit", label: "The peer gives no credit", kind: "out"});
  }
  if (row.into === "open" || row.into === "closing") parts.push(received(row));
  return parts;
}

// A window has two sizes; what is nearer to its limit is shown.
function received({buffered_items: items, window_items: maxItems, buffered_bytes: bytes, window_bytes: maxBytes}) {
  if (maxBytes > 0 && bytes / maxBytes > items / Math.max(1, maxItems)) {
    const text = `${format.size(bytes)} / ${format.size(maxBytes)}`;
    return {used: bytes, whole: maxBytes, text, label: "Received and not yet taken, bytes", kind: "in"};
  }
  return {used: items, whole: maxItems, label: "Received and not yet taken, items", kind: "in"};
}

function drawRate(cell, row) {
  const [figure, canvas] = cell.firstElementChild
    ? cell.children
    : [cell.appendChild(el("span")), cell.appendChild(el("canvas", {class: "spark", "aria-hidden": "true"}))];
  setText(figure, format.rate(row.items_rate));
  drawSpark(canvas, row.history, PLACES);
}

const COLUMNS = [
  {key: "name", label: "Stream", value: (row) => row.name, isHead: true},
  {key: "transport", label: "Over", value: (row) => row.transport},
  {key: "peer", label: "Peer", value: (row) => row.peer},
  {key: "state", label: "State", value: state, draw: drawState},
  {key: "window", label: "Window used", value: (row) => windows(row)[0]?.used ?? -1, draw: (cell, row) => drawGauge(cell, windows(row))},
  {key: "queue", label: "Queue", value: queue, format: (row) => format.count(queue(row)), isNumber: true},
  {key: "items", label: "Items", value: (row) => row.items, format: (row) => format.count(row.items), isNumber: true},
  {key: "rate", label: "Items/s", value: (row) => row.items_rate, draw: drawRate, isNumber: true},
  {key: "bytes", label: "Bytes/s", value: (row) => row.bytes_rate, format: (row) => format.sizeRate(row.bytes_rate), isNumber: true},
];

export class Streams {
  constructor() {
    this.table = new LiveTable($("streams-table"), {columns: COLUMNS, sortList: $("streams-sort")});
    this.known = new Map();
    this.filter = "";
    $("filter").addEventListener("input", (event) => {
      this.filter = event.target.value.trim().toLowerCase();
      this.show();
    });
  }

  update(rows) {
    const now = performance.now();
    const live = new Set(rows.map((row) => row.id));
    for (const row of rows) {
      const history = this.known.get(row.id)?.history ?? [];
      history.push(row.items_rate);
      if (history.length > PLACES) history.shift();
      this.known.set(row.id, {...row, history, isOver: false});
    }
    // A stream that is over stays for a moment, so that its end is seen.
    for (const [id, row] of this.known) {
      if (live.has(id)) continue;
      if (!row.isOver) Object.assign(row, {isOver: true, overAt: now, items_rate: 0, bytes_rate: 0, queued_items: 0, buffered_items: 0});
      else if (now - row.overAt > LINGER_MS) this.known.delete(id);
    }
    this.show();
  }

  show() {
    const all = [...this.known.values()];
    const found = all.filter((row) => `${row.name} ${row.peer} ${row.transport} ${state(row)}`.toLowerCase().includes(this.filter));
    const left = this.table.update(found);
    const note = this.filter ? `${found.length} of ${all.length}` : "";
    setText($("streams-note"), left > 0 ? `${note} ${left} more: narrow the filter`.trim() : note);
    $("streams-empty").hidden = found.length > 0;
    setText($("streams-empty"), this.filter ? `No stream matches “${this.filter}”.` : "No stream is open.");
  }
}
