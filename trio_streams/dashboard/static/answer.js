// What came of a use: its state, counts, windows, and the last of its items.

import {$, el, setState, setText} from "./dom.js";
import * as format from "./format.js";
import {drawGauge} from "./gauge.js";

const MAX_LINES = 200;
const DRAW_MS = 100;
const RATE_MS = 1000;
const MAX_CHARACTERS = 4000;

const WORDS = {connecting: "opening", live: "running", paused: "paused", ended: "ended", cancelled: "cancelled", error: "failed"};
const PILLS = {cancelled: "paused"};

function show(value, isResult) {
  const text = JSON.stringify(value, null, isResult ? 2 : 0) ?? "nothing";
  return text.length > MAX_CHARACTERS ? `${text.slice(0, MAX_CHARACTERS)}… ${text.length} characters` : text;
}

export class Answer {
  constructor() {
    this.run = null;
    this.lines = [];
    this.timer = null;
    this.rate = 0;
    this.counted = null;
  }

  // What is said of a kind of procedure: where items go only one way, nothing is said of the other.
  prepare(kind) {
    this.givesItems = kind === "server" || kind === "bidirectional";
    this.takesItems = kind === "client" || kind === "bidirectional";
    $("rate-row").hidden = !this.givesItems;
    $("sent-row").hidden = !this.takesItems;
    $("window-row").hidden = !this.givesItems;
    $("credit-row").hidden = !this.takesItems;
    this.begin(null);
  }

  // Show a new use, or none.
  begin(run) {
    clearTimeout(this.timer);
    Object.assign(this, {run, lines: [], timer: null, rate: 0, counted: null});
    $("items").replaceChildren();
    this.draw();
  }

  received(value) {
    this.add("received", this.run.received, show(value, !this.givesItems));
  }

  sent(value) {
    this.add("sent", "sent", show(value, false));
  }

  note(text) {
    this.add("note", "", text);
  }

  // Only the last lines are kept, also of those that are not yet drawn.
  add(way, label, text) {
    this.lines.push([way, label, text]);
    if (this.lines.length > MAX_LINES) this.lines.shift();
    this.drawSoon();
  }

  drawSoon() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.draw();
    }, DRAW_MS);
  }

  draw() {
    const {run} = this;
    this.drawLines();
    this.drawRate();
    setText($("received"), format.count(run?.received ?? 0));
    setText($("received-rate"), format.rate(this.rate));
    setText($("sent"), format.count(run?.sent ?? 0));
    setText($("duration"), run ? format.seconds(run.seconds) : "");
    setState($("run-state"), run ? (PILLS[run.state] ?? run.state) : "idle", run ? WORDS[run.state] : "idle");
    this.drawWindows();
    this.drawError(run?.error);
    if (run && !run.isOver) this.drawSoon();
  }

  drawLines() {
    const list = $("items");
    const lines = this.lines.splice(0);
    if (lines.length === 0) return;
    const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
    list.append(...lines.map(([way, label, text]) => el("li", {"data-way": way}, el("span", {}, String(label)), el("span", {}, text))));
    while (list.children.length > MAX_LINES) list.firstElementChild.remove();
    if (follows) list.scrollTop = list.scrollHeight;
  }

  // Items a second: over the last second while it runs, over all of it once it is over.
  drawRate() {
    const {run} = this;
    if (!run) return;
    const now = performance.now();
    this.counted ??= {at: run.began, received: 0};
    const isYoung = this.counted.received === 0 && now - this.counted.at < RATE_MS;
    if (run.isOver || isYoung) this.rate = run.received / Math.max(0.001, run.seconds);
    else if (now - this.counted.at >= RATE_MS) {
      this.rate = ((run.received - this.counted.received) * 1000) / (now - this.counted.at);
      this.counted = {at: now, received: run.received};
    }
  }

  drawWindows() {
    const statistics = this.run?.statistics;
    $("windows").hidden = !statistics || !(this.givesItems || this.takesItems);
    if (!statistics) return;
    const {bufferedItems, windowItems, queuedItems, waitingSends, creditItems} = statistics;
    drawGauge($("window-gauge"), [{used: bufferedItems, whole: windowItems, label: "Received and not yet taken, items", kind: "in"}]);
    const waiting = queuedItems + waitingSends;
    const text = `${waiting} waiting, ${format.count(creditItems)} left`;
    drawGauge($("credit-gauge"), [{used: waiting, whole: waiting + creditItems, text, label: "To be sent, and the server's credit, items", kind: "out"}]);
  }

  drawError(error) {
    $("error").hidden = !error;
    if (!error) return;
    setText($("error-code"), error.code ?? error.name);
    setText($("error-message"), error.message);
    const hasDetails = error.details !== null && error.details !== undefined;
    $("error-details").hidden = !hasDetails;
    if (hasDetails) setText($("error-details"), JSON.stringify(error.details, null, 2));
  }
}
