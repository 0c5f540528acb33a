// `logs.tail`: the server filters, so that only what is wanted travels.

import {$, appendLine, el, setState} from "./dom.js";
import {openEvents} from "./events.js";
import {clock} from "./format.js";

const MAX_LINES = 300;
const FIRST_LINES = 60;
const TYPING_MS = 300;

export function startLogs() {
  const list = $("logs");
  let close = null;
  let timer = 0;

  function line({timestamp, level, message}) {
    const time = timestamp ? clock(new Date(timestamp)) : "";
    return el(
      "li",
      {"data-level": level},
      el("time", {datetime: timestamp}, time),
      el("span", {class: "level"}, level || "–"),
      el("span", {class: "text"}, message),
    );
  }

  function open() {
    close?.();
    const query = new URLSearchParams({limit: FIRST_LINES, contains: $("logs-text").value});
    if ($("logs-level").value) query.set("level", $("logs-level").value);
    close = openEvents(`../streams/logs.tail?${query}`, {
      item: (item) => appendLine(list, line(item), MAX_LINES),
      state(state, message) {
        // A new answer begins with the last lines again.
        if (state === "live" || state === "connecting") list.replaceChildren();
        setState($("logs-state"), state, message ?? (state === "lost" ? "reconnecting" : state));
      },
    });
  }

  $("logs-level").addEventListener("change", open);
  $("logs-text").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(open, TYPING_MS);
  });
  $("logs-text").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    $("logs-text").value = "";
    open();
  });
  open();
}
