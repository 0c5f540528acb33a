// How a procedure is used: over the WebSocket, where every kind is a stream, or over HTTP. Each way gives items by `next`.

import {link} from "./link.js";

const ROOT = new URL("..", location.href);

class HttpError extends Error {
  constructor({code = "UNKNOWN", message = "", details = null}) {
    super(message);
    Object.assign(this, {code, details});
  }
}

// Each takes what is asked, and a signal for what has not yet begun to answer.
// asked: {name, kind, input, metadata, timeout, windowItems}
export async function openOverWebSocket({name, kind, input, metadata, timeout, windowItems}) {
  const client = await link();
  const stream = client.bidi(name, {metadata, timeout, windowItems});
  const takesItems = kind === "client" || kind === "bidirectional";
  if (!takesItems) {
    // Whatever becomes of what was sent, the answer says it.
    if (input !== undefined) stream.send(input).catch(() => {});
    stream.end().catch(() => {});
  }
  return {
    next: () => stream.next(),
    send: (value) => stream.send(value),
    end: () => stream.end(),
    cancel: () => stream.cancel("cancelled on the page"),
    statistics: () => stream.statistics(),
  };
}

// Where a procedure is over HTTP, without what its query says.
export function httpAddress({name, kind}) {
  const folder = {call: "", event: "events/", server: "streams/", client: "streams/"}[kind];
  return new URL(folder + name.split("/").map(encodeURIComponent).join("/"), ROOT);
}

// The input of a server stream as a query: lists as a repeated name, what has fields of its own as JSON.
export function query(input) {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(input ?? {})) {
    const values = Array.isArray(value) ? value : [value];
    for (const one of values) if (one !== null) pairs.append(name, typeof one === "object" ? JSON.stringify(one) : String(one));
  }
  return pairs.toString();
}

export async function openOverHttp({name, kind, input, metadata, timeout}, signal) {
  const headers = {...metadata, ...(timeout ? {"x-timeout-ms": String(timeout)} : {})};
  const url = httpAddress({name, kind});
  const isStream = kind === "server";
  if (isStream) url.search = query(input);
  const body = isStream || input === undefined ? undefined : JSON.stringify(input);
  const request = isStream
    ? {headers: {...headers, accept: "text/event-stream"}}
    : {method: "POST", body, headers: {...headers, "content-type": "application/json"}};
  const answer = await fetch(url, {...request, signal, cache: "no-store"});
  if (!answer.ok) throw await refusal(answer);
  const items = isStream ? events(answer.body) : single(answer, kind);
  return {next: () => items.next(), cancel() {}, statistics: () => null};
}

async function refusal(answer) {
  const text = await answer.text();
  try {
    return new HttpError(JSON.parse(text).error);
  } catch {
    return new HttpError({code: `HTTP ${answer.status}`, message: text.slice(0, 500)});
  }
}

async function* single(answer, kind) {
  if (kind === "event") return;
  yield await answer.json();
}

// Server-sent events as our servers write them: items, then `end` or `error`. Nothing is read before it is asked for.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done) throw new HttpError({code: "UNAVAILABLE", message: "the connection was lost before the stream's end"});
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const {event, data} = readEvent(block);
      if (event === "end") return;
      if (event === "error") throw new HttpError(JSON.parse(data).error ?? JSON.parse(data));
      if (data !== "") yield JSON.parse(data);
    }
  }
}

function readEvent(block) {
  const fields = block.split("\n").map((line) => line.split(/: ?(.*)/s));
  const data = fields.filter(([name]) => name === "data").map(([, value]) => value);
  return {event: fields.find(([name]) => name === "event")?.[1] ?? "", data: data.join("\n")};
}
