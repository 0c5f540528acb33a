// `system.cpu` as lines: all processors together, and each by itself behind that.

import {$, setText} from "./dom.js";
import {openEvents} from "./events.js";
import {LinePlot} from "./plot.js";

const INTERVAL = 0.5;

export function startCpu() {
  const plot = new LinePlot($("cpu"), {series: [], format: (value) => `${value.toFixed(0)} %`, top: 100});
  openEvents(`../streams/system.cpu?interval=${INTERVAL}`, {
    item({timestamp, percent, per_core: cores, load_average: load}) {
      const all = {key: "all", color: "accent", isFilled: true};
      plot.series = [...cores.map((_, core) => ({key: `core${core}`, color: "quiet", isThin: true})), all];
      const each = Object.fromEntries(cores.map((value, core) => [`core${core}`, value]));
      plot.add(Date.parse(timestamp) / 1000, {all: percent, ...each});
      setText($("cpu-now"), `${percent.toFixed(0)} %`);
      setText($("cpu-note"), `${cores.length} processors; load ${load.map((value) => value.toFixed(2)).join(", ") || "unknown"}`);
      $("cpu").setAttribute("aria-label", `Use of the processors over the last minute; now ${percent.toFixed(0)} percent`);
    },
    state(state, message) {
      $("cpu-panel").dataset.state = state;
      if (state === "error") setText($("cpu-note"), message);
      if (state === "lost") setText($("cpu-now"), "–");
    },
  });
}
