// The tables of connections and of the last requests.

import {$, el, setAttribute, setText} from "./dom.js";
import * as format from "./format.js";
import {LiveTable} from "./table.js";

function drawPeer(cell, row) {
  // The streams of one connection: its address in the filter.
  const button = cell.firstElementChild ?? cell.appendChild(el("button", {type: "button", class: "link"}));
  if (button.textContent === row.peer) return;
  setText(button, row.peer);
  setAttribute(button, "aria-label", `Show the streams of ${row.peer}`);
  button.onclick = () => {
    const filter = $("filter");
    filter.value = row.peer;
    filter.dispatchEvent(new Event("input"));
    filter.focus();
  };
}

// A session without a carrier waits for its client.
const attachment = (row) => (row.is_attached ? "open" : "away");

function drawAttachment(cell, row) {
  const badge = cell.firstElementChild ?? cell.appendChild(el("span", {class: "badge"}));
  setAttribute(badge, "data-state", row.is_attached ? "open" : "held");
  setText(badge, attachment(row));
}

const CONNECTION_COLUMNS = [
  {key: "peer", label: "Peer", value: (row) => row.peer, draw: drawPeer, isHead: true},
  {key: "transport", label: "Over", value: (row) => row.transport},
  {key: "state", label: "State", value: attachment, draw: drawAttachment},
  {key: "resumes", label: "Resumed", value: (row) => row.resumes, isNumber: true},
  {key: "streams", label: "Streams", value: (row) => row.streams, isNumber: true},
  {key: "queued", label: "Queued", value: (row) => row.queued_bytes, format: (row) => format.size(row.queued_bytes), isNumber: true},
  {key: "kept", label: "Kept", value: (row) => row.retained_bytes, format: (row) => format.size(row.retained_bytes), isNumber: true},
  {key: "sent", label: "Out", value: (row) => row.sent_rate, format: (row) => format.sizeRate(row.sent_rate), isNumber: true},
  {key: "received", label: "In", value: (row) => row.received_rate, format: (row) => format.sizeRate(row.received_rate), isNumber: true},
  {key: "ping", label: "Ping", value: (row) => row.round_trip ?? -1, format: (row) => (row.round_trip === null ? "–" : format.seconds(row.round_trip)), isNumber: true},
];

function drawStatus(cell, row) {
  const badge = cell.firstElementChild ?? cell.appendChild(el("span", {class: "badge"}));
  const isWrong = row.outcome === "failed" || row.status >= 400;
  setAttribute(badge, "data-state", isWrong ? "errored" : row.outcome === "left" ? "closing" : "open");
  setText(badge, row.outcome === "left" ? "left" : String(row.status || "failed"));
}

const REQUEST_COLUMNS = [
  {key: "path", label: "Request", value: (row) => `${row.method} ${row.path}`, isHead: true},
  {key: "status", label: "Status", value: (row) => row.status, draw: drawStatus},
  {key: "bytes", label: "Bytes", value: (row) => row.bytes_sent, format: (row) => format.size(row.bytes_sent), isNumber: true},
  {key: "seconds", label: "Time", value: (row) => row.seconds, format: (row) => format.seconds(row.seconds), isNumber: true},
];

export class Connections {
  constructor() {
    this.connections = new LiveTable($("connections-table"), {columns: CONNECTION_COLUMNS, sortList: $("connections-sort")});
    this.requests = new LiveTable($("requests-table"), {columns: REQUEST_COLUMNS, sortList: $("requests-sort")});
  }

  update({connections, recent}) {
    this.connections.update(connections);
    this.requests.update(recent.map((row) => ({...row, id: String(row.number)})));
    $("connections-empty").hidden = connections.length > 0;
    $("requests-empty").hidden = recent.length > 0;
  }
}
