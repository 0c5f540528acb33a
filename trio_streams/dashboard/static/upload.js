// `files.upload`: a client stream over the WebSocket. Sending waits where the server gives no credit, and that is shown.

import {$, setState, setText} from "./dom.js";
import * as format from "./format.js";
import {link} from "./link.js";

const CHUNK_BYTES = 16384;
const SAMPLE_BYTES = 8 * 1024 * 1024;
const SLOW_BYTES_PER_SECOND = 256 * 1024;
const DRAW_MS = 100;

function base64(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

async function sha256(file) {
  // Only pages from https:// or from this very machine may compute it.
  if (!crypto.subtle) return null;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function sample() {
  const bytes = new Uint8Array(SAMPLE_BYTES);
  for (let at = 0; at < SAMPLE_BYTES; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
  return new File([bytes], "sample");
}

class Progress {
  constructor(total) {
    Object.assign(this, {total, sent: 0, held: 0, began: performance.now(), drawnAt: 0});
  }

  draw(isDue = false) {
    const now = performance.now();
    if (!isDue && now - this.drawnAt < DRAW_MS) return;
    this.drawnAt = now;
    const seconds = Math.max(0.001, (now - this.began) / 1000);
    const held = Math.min(1, this.held / (now - this.began || 1));
    $("upload-progress").value = this.total ? this.sent / this.total : 1;
    $("upload-held").value = held;
    setText(
      $("upload-result"),
      `${format.size(this.sent)} of ${format.size(this.total)}, ${format.sizeRate(this.sent / seconds)}, held ${(held * 100).toFixed(0)} % of the time`,
    );
  }
}

async function* chunks(file, progress, signal) {
  const reader = file.stream().getReader();
  try {
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      for (let at = 0; at < value.length; at += CHUNK_BYTES) {
        signal.throwIfAborted();
        const piece = value.subarray(at, at + CHUNK_BYTES);
        const asked = performance.now();
        yield {data: base64(piece)};
        // The next chunk is asked for when this one has been taken.
        progress.held += performance.now() - asked;
        progress.sent += piece.length;
        progress.draw();
      }
    }
  } finally {
    reader.releaseLock();
  }
}

async function send(file, {signal, isSlow}) {
  const progress = new Progress(file.size);
  const client = await link();
  const metadata = {size: String(file.size)};
  if (isSlow) metadata["bytes-per-second"] = String(SLOW_BYTES_PER_SECOND);
  const answer = await client.upload("files.upload", chunks(file, progress, signal), {metadata, signal});
  progress.draw(true);
  return answer;
}

function describe(answer, expected) {
  const verdict = expected === null ? "" : expected === answer.sha256 ? ", the same as here" : ", NOT the same as here";
  return `${format.size(answer.size)} in ${answer.chunks} chunks and ${format.seconds(answer.seconds)}; SHA-256 ${answer.sha256.slice(0, 16)}…${verdict}.`;
}

export function startUpload() {
  let abort = null;

  async function run(file) {
    if (abort || !file) return;
    abort = new AbortController();
    busy(true);
    setState($("upload-state"), "live", "sending");
    try {
      const answer = await send(file, {signal: abort.signal, isSlow: $("upload-slow").checked});
      setText($("upload-result"), describe(answer, await sha256(file)));
      setState($("upload-state"), "ended", "done");
    } catch (error) {
      const isOurs = abort.signal.aborted;
      setState($("upload-state"), isOurs ? "paused" : "error", isOurs ? "cancelled" : "failed");
      setText($("upload-result"), isOurs ? "Cancelled: the server's handler is, too." : `Failed: ${error.message}`);
    } finally {
      abort = null;
      busy(false);
    }
  }

  function busy(isBusy) {
    const cancel = $("upload-cancel");
    const hadFocus = document.activeElement === cancel;
    $("upload-send").disabled = isBusy;
    $("upload-sample").disabled = isBusy;
    cancel.disabled = !isBusy;
    // A disabled button loses the focus, and with it the place of who uses the keyboard.
    if (!isBusy && hadFocus) $("upload-sample").focus();
  }

  function choose(file) {
    if (file) setText($("upload-result"), `${file.name}, ${format.size(file.size)}, waits to be sent.`);
  }

  $("upload-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const [file] = $("upload-file").files;
    if (file) run(file);
    else setText($("upload-result"), "Choose a file first, or send a sample.");
  });
  $("upload-sample").addEventListener("click", () => run(sample()));
  $("upload-cancel").addEventListener("click", () => abort?.abort());
  $("upload-file").addEventListener("change", () => choose($("upload-file").files[0]));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") abort?.abort();
  });
  const drop = $("upload-drop");
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    run(event.dataTransfer.files[0]);
  });
}
