// A session of WebTransport with the demo: what it measures, and what a person can have it do.

const PING_MS = 100;
const LOST_MS = 2000;
const MAX_WAITING = 1000;
const PING_BYTES = 64;
const CHUNK = new Uint8Array(65536);
const ECHO = new TextEncoder().encode("E");
const FLOOD = new TextEncoder().encode("F");

export async function openVisit({url, certificate_sha256: hash}) {
  const value = Uint8Array.from(atob(hash), (character) => character.charCodeAt(0));
  const transport = new WebTransport(url, {serverCertificateHashes: [{algorithm: "sha-256", value}]});
  transport.closed.catch(() => {}); // whoever waits for it hears of it
  await transport.ready;
  return new Visit(transport);
}

class Visit {
  constructor(transport) {
    this.transport = transport;
    this.counts = {sent: 0, lost: 0, ours: 0, theirs: 0, echoed: 0, read: 0, written: 0, ticks: 0};
    this.roundTrips = [];
    this.waiting = new Map();
    this.isEchoing = false;
    this.abortEcho = () => {};
    this.flood = null;
    this.isHeld = false;
    this.goOn = () => {};
    const {datagrams} = transport;
    this.datagrams = (datagrams.writable ?? datagrams.createWritable()).getWriter();
    const timer = setInterval(() => this.ping(), PING_MS);
    // {closeCode, reason}, or an error where nobody has closed the session.
    this.closed = transport.closed.finally(() => {
      clearInterval(timer);
      this.isEchoing = false;
    });
    this.closed.catch(() => {});
    this.readDatagrams().catch(() => {});
    this.readStreams().catch(() => {});
  }

  close(closeCode, reason) {
    this.transport.close({closeCode, reason});
  }

  // What has happened since it was last asked, and in all: seconds, items and bytes.
  take() {
    const now = performance.now();
    for (const [number, sentAt] of this.waiting) {
      if (now - sentAt < LOST_MS) break;
      this.waiting.delete(number);
      this.counts.lost += 1;
    }
    const times = this.roundTrips.sort((a, b) => a - b);
    this.roundTrips = [];
    return {...this.counts, roundTrip: times.length ? times[times.length >> 1] / 1000 : null};
  }

  ping() {
    if (document.hidden || this.waiting.size >= MAX_WAITING) return;
    const number = this.counts.sent++;
    const data = new Uint8Array(PING_BYTES);
    new DataView(data.buffer).setUint32(0, number);
    this.waiting.set(number, performance.now());
    this.datagrams.write(data).catch(() => {});
  }

  async readDatagrams() {
    for await (const data of pieces(this.transport.datagrams.readable)) {
      const number = new DataView(data.buffer, data.byteOffset).getUint32(0);
      const sentAt = this.waiting.get(number);
      if (sentAt === undefined) continue; // it was given up
      this.waiting.delete(number);
      this.roundTrips.push(performance.now() - sentAt);
    }
  }

  async readStreams() {
    for await (const stream of pieces(this.transport.incomingUnidirectionalStreams)) {
      this.counts.theirs += 1;
      this.readTicks(stream).catch(() => {});
    }
  }

  async readTicks(stream) {
    let rest = "";
    for await (const text of pieces(stream.pipeThrough(new TextDecoderStream()))) {
      const lines = (rest + text).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const {number, flood_bytes: written} = JSON.parse(line);
        Object.assign(this.counts, {ticks: number, written});
      }
    }
  }

  async open(kind) {
    const {readable, writable} = await this.transport.createBidirectionalStream();
    this.counts.ours += 1;
    const writer = writable.getWriter();
    await writer.write(kind);
    return {readable, writer};
  }

  // As fast as it goes, until it is stopped: each side waits where the other one has no room.
  async echo() {
    this.isEchoing = true;
    try {
      const {readable, writer} = await this.open(ECHO);
      this.abortEcho = () => writer.abort().catch(() => {}); // the server resets its half for that: what is under way is dropped
      await Promise.all([this.writeEcho(writer), this.readEcho(readable)]);
    } finally {
      this.stopEcho();
    }
  }

  stopEcho() {
    this.isEchoing = false;
    this.abortEcho();
    this.abortEcho = () => {};
  }

  async writeEcho(writer) {
    while (this.isEchoing) await writer.write(CHUNK);
  }

  async readEcho(readable) {
    for await (const data of pieces(readable)) this.counts.echoed += data.length;
  }

  async openMany(count) {
    await Promise.all(Array.from({length: count}, () => this.openShort()));
  }

  async openShort() {
    const {readable, writer} = await this.open(ECHO);
    await writer.write(CHUNK.subarray(0, PING_BYTES));
    await Promise.all([writer.close(), this.readEcho(readable)]);
  }

  async readFlood() {
    if (this.flood) return;
    const {readable} = await this.open(FLOOD);
    this.flood = readable.getReader();
    try {
      for (;;) {
        if (this.isHeld) await new Promise((resolve) => (this.goOn = resolve));
        const {value, done} = await this.flood.read();
        if (done) return;
        this.counts.read += value.length;
      }
    } finally {
      this.flood = null;
    }
  }

  // A page that does not read has the server's writer wait: nothing else says so.
  hold(isHeld) {
    this.isHeld = isHeld;
    if (!isHeld) this.goOn();
  }

  async stopFlood() {
    await this.flood?.cancel();
    this.hold(false);
  }
}

async function* pieces(readable) {
  const reader = readable.getReader();
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    yield value;
  }
}
