// The snapshots, and the pill that tells whether they come.

import {$, setState} from "./dom.js";
import {openEvents} from "./events.js";

const TEXTS = {connecting: "connecting", live: "live", lost: "reconnecting", paused: "paused", ended: "ended", error: "failed"};

export class Feed {
  constructor(onSnapshot) {
    this.onSnapshot = onSnapshot;
    this.close = null;
    this.isPaused = false;
    $("pause").addEventListener("click", () => this.pause(!this.isPaused));
    // Who does not look costs the server nothing, and the browser none of its six connections to a server.
    document.addEventListener("visibilitychange", () => this.settle());
    this.settle();
  }

  pause(isPaused) {
    this.isPaused = isPaused;
    $("pause").setAttribute("aria-pressed", String(isPaused));
    this.settle();
  }

  settle() {
    const isWanted = !this.isPaused && !document.hidden;
    if (isWanted && !this.close) {
      const on = {item: this.onSnapshot, state: (state, message) => this.show(state, message)};
      this.close = openEvents("events", on, {isSteady: true});
    } else if (!isWanted && this.close) {
      this.close();
      this.close = null;
      this.show("paused");
    }
  }

  show(state, message) {
    document.body.dataset.feed = state;
    setState($("state"), state, message ?? TEXTS[state]);
  }
}
