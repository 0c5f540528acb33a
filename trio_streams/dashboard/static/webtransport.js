// `webtransport.endpoint`: a session over HTTP/3, which this page trusts by the hash of the demo's certificate.

import {$, setAttribute, setState, setText} from "./dom.js";
import * as format from "./format.js";
import {link} from "./link.js";
import {LinePlot} from "./plot.js";
import {makeTile} from "./totals.js";
import {openVisit} from "./visit.js";

const SHOW_MS = 1000;
const MANY = 100;

const TILES = [
  ["roundTrip", "Round trip", (value) => (value === null ? "–" : format.seconds(value))],
  ["sent", "Datagrams sent", format.count],
  ["lost", "Datagrams lost", format.count],
  ["echoRate", "Echo", format.sizeRate],
  ["ours", "Streams opened here", format.count],
  ["theirs", "By the server", format.count],
  ["written", "Server has written", format.size],
  ["writeRate", "Server writes", format.sizeRate],
];

const HINT = "Have the server write, then stop reading: its writer stands still, and datagrams and other streams go on.";

export const hasWebTransport = () => "WebTransport" in window;

export function startWebTransport() {
  new Panel().connect();
}

class Panel {
  constructor() {
    this.tiles = new Map(TILES.map(([key, label]) => [key, makeTile($("webtransport-tiles"), label)]));
    const series = [{key: "roundTrip", color: "accent", isFilled: true}];
    this.plot = new LinePlot($("webtransport-plot"), {series, format: (value) => format.seconds(value)});
    this.visit = null;
    this.isBusy = false;
    this.onClick("webtransport-echo", () => this.toggleEcho());
    this.onClick("webtransport-many", () => this.visit.openMany(MANY));
    this.onClick("webtransport-flood", () => this.toggleFlood());
    this.onClick("webtransport-hold", () => this.hold(!this.visit.isHeld));
    $("webtransport-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.visit) this.visit.close(Number($("webtransport-code").value) || 0, $("webtransport-reason").value);
      else this.connect();
    });
    this.draw();
  }

  // What is under way when the session ends is told by its end.
  onClick(id, act) {
    $(id).addEventListener("click", () => Promise.resolve(act()).catch((error) => console.debug(`${id}: ${error.message}`)));
  }

  async connect() {
    if (this.isBusy) return;
    this.isBusy = true;
    setState($("webtransport-state"), "connecting");
    try {
      const client = await link();
      const endpoint = await client.call("webtransport.endpoint");
      this.visit = await openVisit(endpoint);
      setText($("webtransport-url"), endpoint.url);
      setState($("webtransport-state"), "live");
      setText($("webtransport-result"), HINT);
      this.stay(this.visit);
    } catch (error) {
      setState($("webtransport-state"), "error", "failed");
      setText($("webtransport-result"), `There is no session: ${error.message}`);
    } finally {
      this.isBusy = false;
      this.draw();
    }
  }

  async stay(visit) {
    let before = {at: performance.now(), ...visit.take()};
    const timer = setInterval(() => (before = this.show(visit, before)), SHOW_MS);
    try {
      const {closeCode, reason} = await visit.closed;
      setState($("webtransport-state"), "ended", "closed");
      setText($("webtransport-result"), `Closed with code ${closeCode}${reason ? `: ${reason}` : ", without a reason"}.`);
    } catch (error) {
      setState($("webtransport-state"), "lost");
      setText($("webtransport-result"), `Lost: ${error.message}`);
    } finally {
      clearInterval(timer);
      this.visit = null;
      this.draw();
    }
  }

  show(visit, before) {
    const now = {at: performance.now(), ...visit.take()};
    const seconds = (now.at - before.at) / 1000;
    const rate = (key) => Math.max(0, now[key] - before[key]) / seconds;
    const figures = {...now, echoRate: rate("echoed"), writeRate: rate("written")};
    for (const [key, , show] of TILES) setText(this.tiles.get(key), show(figures[key]));
    const {roundTrip} = now;
    if (roundTrip !== null) {
      this.plot.add(now.at / 1000, {roundTrip});
      setAttribute($("webtransport-plot"), "aria-label", `Round trip of datagrams over the last minute; now ${format.seconds(roundTrip)}`);
    }
    return now;
  }

  async toggleEcho() {
    const {visit} = this;
    const isOver = visit.isEchoing ? visit.stopEcho() : visit.echo();
    this.draw();
    try {
      await isOver;
    } finally {
      this.draw();
    }
  }

  async toggleFlood() {
    const {visit} = this;
    this.isFlooding = !this.isFlooding;
    this.draw();
    try {
      await (this.isFlooding ? visit.readFlood() : visit.stopFlood());
    } finally {
      this.isFlooding = false;
      this.draw();
    }
  }

  hold(isHeld) {
    this.visit.hold(isHeld);
    this.draw();
  }

  draw() {
    const {visit} = this;
    if (!visit) this.isFlooding = false;
    for (const name of ["echo", "many", "flood", "hold"]) $(`webtransport-${name}`).disabled = !visit;
    $("webtransport-hold").disabled = !this.isFlooding;
    setAttribute($("webtransport-echo"), "aria-pressed", String(Boolean(visit?.isEchoing)));
    setAttribute($("webtransport-flood"), "aria-pressed", String(Boolean(this.isFlooding)));
    setAttribute($("webtransport-hold"), "aria-pressed", String(Boolean(visit?.isHeld)));
    setText($("webtransport-submit"), visit ? "Close the session" : "Connect");
  }
}
