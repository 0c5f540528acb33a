// The figures at the top, and the throughput of the last minute.

import {$, el, setText} from "./dom.js";
import * as format from "./format.js";
import {LinePlot} from "./plot.js";

const TILES = [
  ["connections", "Connections", format.count],
  ["streams", "Streams", format.count],
  ["exchanges", "HTTP exchanges", format.count],
  ["items_rate", "Items/s", format.rate],
  ["bytes_sent_rate", "Out", format.sizeRate],
  ["bytes_received_rate", "In", format.sizeRate],
  ["queued_bytes", "Queued", format.size],
  ["held", "Held by readers", format.count],
];

const UNITS = {
  bytes: {series: [
    {key: "bytes_sent_rate", color: "out", label: "out", isFilled: true},
    {key: "bytes_received_rate", color: "in", label: "in", isFilled: true},
  ], format: format.sizeRate, base: 1024},
  items: {series: [{key: "items_rate", color: "accent", label: "items", isFilled: true}], format: format.rate, base: 10},
};

export class Totals {
  constructor() {
    this.figures = new Map(TILES.map(([key, label]) => [key, makeTile($("tiles"), label)]));
    this.plot = new LinePlot($("throughput"), UNITS.bytes);
    this.showLegend("bytes");
    $("throughput-unit").addEventListener("change", (event) => {
      this.plot.reset(UNITS[event.target.value]);
      this.showLegend(event.target.value);
    });
  }

  showLegend(unit) {
    const entries = UNITS[unit].series.map(({label, color}) => el("span", {class: "key", "data-color": color}, label));
    $("throughput-legend").replaceChildren(...entries);
  }

  update({time, uptime, totals}) {
    for (const [key, , show] of TILES) setText(this.figures.get(key), show(totals[key]));
    this.plot.add(time, totals);
    const viewers = `${totals.viewers} ${totals.viewers === 1 ? "viewer" : "viewers"}`;
    setText($("uptime"), `up ${format.duration(uptime)}, ${viewers}`);
    const {bytes_sent_rate: out, bytes_received_rate: into, items_rate: items} = totals;
    $("throughput").setAttribute(
      "aria-label",
      `Throughput of the last minute; now ${format.sizeRate(out)} out, ${format.sizeRate(into)} in, ${format.rate(items)} items/s`,
    );
  }
}

export function makeTile(list, label) {
  const figure = el("span", {class: "figure"}, "–");
  list.append(el("div", {class: "tile"}, el("span", {class: "quiet"}, label), figure));
  return figure;
}
