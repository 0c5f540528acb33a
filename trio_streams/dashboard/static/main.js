// The live page: snapshots of the server, and a panel for each of the demo's procedures that it has.

import {Connections} from "./connections.js";
import {startCpu} from "./cpu.js";
import {startChat} from "./chat.js";
import {$, el} from "./dom.js";
import {Feed} from "./feed.js";
import {startLogs} from "./logs.js";
import {startOutage} from "./outage.js";
import {Streams} from "./streams.js";
import {Totals} from "./totals.js";
import {startUpload} from "./upload.js";
import {hasWebTransport, startWebTransport} from "./webtransport.js";

const RETRY_MS = 1000;

const PANELS = [
  ["system.cpu", "server", "cpu-panel", startCpu],
  ["logs.tail", "server", "logs-panel", startLogs],
  ["chat", "bidirectional", "chat-panel", startChat],
  ["files.upload", "client", "upload-panel", startUpload],
  ["network.cut", "call", "outage", startOutage],
  ["webtransport.endpoint", "call", "webtransport-panel", startWebTransport, hasWebTransport],
];

async function fetchAbout() {
  for (;;) {
    try {
      const answer = await fetch("about");
      if (answer.ok) return await answer.json();
    } catch {
      // The pill says that the server is away; here it is only asked again.
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

function showAbout({title, version, procedures}) {
  $("title").textContent = title;
  document.title = `${title} live`;
  $("title").title = version ? `trio_streams ${version}` : "";
  $("procedures").replaceChildren(
    ...procedures.map(({name, kind, description}) =>
      el("div", {}, el("dt", {}, el("a", {class: "link", href: `procedures#${encodeURIComponent(name)}`}, name), " ", el("span", {class: "badge", "data-state": "kind"}, kind)), el("dd", {}, description)),
    ),
  );
  const kinds = new Map(procedures.map(({name, kind}) => [name, kind]));
  for (const [name, kind, panel, start, canRun = () => true] of PANELS) {
    if (kinds.get(name) !== kind || !canRun()) continue;
    $(panel).hidden = false;
    document.body.classList.add(`has-${panel}`);
    start();
  }
}

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input, select, textarea");
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    $("filter").focus();
  } else if (event.key === "Escape" && event.target === $("filter")) {
    $("filter").value = "";
    $("filter").dispatchEvent(new Event("input"));
  }
});

const views = [new Totals(), new Streams(), new Connections()];
const [totals, streams, connections] = views;
new Feed((snapshot) => {
  totals.update(snapshot);
  streams.update(snapshot.streams);
  connections.update(snapshot);
});
showAbout(await fetchAbout());
