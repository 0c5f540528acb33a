// One use of a procedure: items are taken as they come unless reading is paused, and drawn a few times a second.

import {openOverHttp, openOverWebSocket} from "./sources.js";

// Whoever sends faster than the page draws leaves it time to do so.
const ITEMS_A_TURN = 64;

const nextTurn = () => new Promise((resolve) => setTimeout(resolve, 0));

export class Run {
  // asked: see `sources.js`; watch: {received(value), sent(value), changed()}
  constructor(asked, transport, watch) {
    Object.assign(this, {asked, transport, watch, received: 0, sent: 0, state: "connecting", error: null, source: null});
    this.isHalfOpen = asked.kind === "client" || asked.kind === "bidirectional";
    this.abort = new AbortController();
    this.began = performance.now();
    this.endedAt = null;
    this.last = null;
    this.resume = null;
    this.paused = null;
  }

  get isOver() {
    return this.endedAt !== null;
  }

  get isPaused() {
    return this.paused !== null;
  }

  get seconds() {
    return ((this.endedAt ?? performance.now()) - this.began) / 1000;
  }

  // What it holds and may hold; null where the transport has no windows.
  get statistics() {
    this.last = (this.isOver ? null : this.source?.statistics()) ?? this.last;
    return this.last;
  }

  async go() {
    try {
      this.source = await (this.transport === "ws" ? openOverWebSocket : openOverHttp)(this.asked, this.abort.signal);
      if (this.isOver) this.source.cancel();
      else this.enter(this.isPaused ? "paused" : "live");
      await this.read();
      this.finish("ended");
    } catch (error) {
      this.finish("error", error);
    }
  }

  async read() {
    while (!this.isOver) {
      if (this.paused) await this.paused;
      const {value, done} = await this.source.next();
      if (done || this.isOver) return;
      this.received += 1;
      this.watch.received(value);
      if (this.received % ITEMS_A_TURN === 0) await nextTurn();
    }
  }

  async send(value) {
    await this.source.send(value);
    this.sent += 1;
    this.watch.sent(value);
  }

  async end() {
    this.isHalfOpen = false;
    this.watch.changed();
    await this.source.end();
  }

  // Take no more items: what arrives fills the window, and then the server waits.
  hold(isHeld) {
    if (this.isOver || isHeld === this.isPaused) return;
    if (isHeld) {
      this.paused = new Promise((resolve) => (this.resume = resolve));
    } else {
      this.paused = null;
      this.resume();
    }
    if (this.state !== "connecting") this.enter(isHeld ? "paused" : "live");
  }

  cancel() {
    if (this.isOver) return;
    this.finish("cancelled");
    this.abort.abort();
    this.source?.cancel();
  }

  enter(state) {
    this.state = state;
    this.watch.changed();
  }

  finish(state, error = null) {
    if (this.isOver) return;
    this.last = this.source?.statistics() ?? this.last;
    this.endedAt = performance.now();
    this.error = error;
    this.isHalfOpen = false;
    this.resume?.();
    this.enter(state);
  }
}
