// `chat`: one bidirectional stream over the WebSocket, kept open for as long as the page.

import {$, appendLine, el, setState} from "./dom.js";
import {link, pause} from "./link.js";

const MAX_MESSAGES = 200;

const TEXTS = {
  joined: () => "joined",
  left: () => "left",
  status: (event) => `${event.participants.length} here: ${event.participants.join(", ")}`,
};

function message(event) {
  const text = TEXTS[event.type]?.(event) ?? event.text;
  return el("li", {"data-type": event.type}, el("b", {}, event.name || "room"), " ", el("span", {}, text));
}

export function startChat() {
  const list = $("chat");
  let stream = null;

  async function talk() {
    const client = await link();
    try {
      stream = client.bidi("chat");
      setState($("chat-state"), "live");
      for await (const event of stream) appendLine(list, message(event), MAX_MESSAGES);
    } finally {
      stream = null;
    }
  }

  async function keepTalking() {
    for (;;) {
      try {
        await talk();
      } catch (error) {
        console.debug("the chat was interrupted:", error.message);
      }
      setState($("chat-state"), "lost", "reconnecting");
      await pause();
    }
  }

  $("chat-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const input = $("chat-text");
    const text = input.value.trim();
    if (!text || !stream) return;
    input.value = "";
    try {
      await stream.send({text, name: $("chat-name").value.trim()});
    } catch {
      input.value = text; // it was not taken: nothing that was typed is lost
    }
  });
  $("chat-text").addEventListener("keydown", (event) => {
    if (event.key === "Escape") event.target.value = "";
  });
  keepTalking();
}
