/**
 * A client for `trio-streams.v1`: calls and streams in all directions over a WebSocket, with backpressure.
 *
 * One ES module without dependencies, for browsers and for Node 22 and newer. From the ground up: codes and errors, the
 * wire (bytes to frames and back), credit, one stream's machine, the machine of a connection, and on top of it what users
 * hold. The machine knows no WebSocket and no clock; `connect` is the only place that knows one.
 *
 * Sizes are in bytes, times in milliseconds.
 *
 * @module
 */

// -- codes and errors ----------------------------------------------------------------------------------------------------

/** The name of the dialect, which is the WebSocket's subprotocol. */
export const PROTOCOL = "trio-streams.v1";

/** Every code that a wire knows by its number. An application's own codes are names only. */
export const CODES = Object.freeze({
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
  PROTOCOL_ERROR: 32,
  FLOW_CONTROL_ERROR: 33,
  STREAM_LIMIT_ERROR: 34,
  MESSAGE_TOO_LARGE: 35,
  HANDSHAKE_TIMEOUT: 36,
  IDLE_TIMEOUT: 37,
});

/** @type {ReadonlyMap<number, string>} */
const CODE_NAMES = new Map(Object.entries(CODES).map(([name, number]) => [number, name]));

/** @param {string} name */
const codeNumber = (name) => /** @type {Record<string, number>} */ (CODES)[name] ?? CODES.UNKNOWN;

/** The status that ended a call or a stream. */
export class RpcError extends Error {
  /**
   * @param {string} code the name of the code: one of `CODES`, or an application's own
   * @param {string} [message] for people
   * @param {unknown} [details] for programs: any JSON value
   */
  constructor(code, message = "", details = null) {
    super(message);
    this.name = "RpcError";
    /** The name of the code. */
    this.code = code;
    /** For programs: any JSON value, or null. */
    this.details = details;
  }

  toString() {
    return `${this.name}: ${this.code}${this.message && `: ${this.message}`}`;
  }
}

/** The peer abandoned its half of a stream: what was not yet taken is gone. */
export class StreamReset extends RpcError {
  /** @param {string} code @param {string} reason */
  constructor(code, reason) {
    super(code, reason);
    this.name = "StreamReset";
  }
}

/** The peer takes no more of our half: sending is pointless. */
export class StreamStopped extends RpcError {
  /** @param {string} code @param {string} reason */
  constructor(code, reason) {
    super(code, reason);
    this.name = "StreamStopped";
  }
}

/** The connection is over, and with it every stream on it. `cause` says more, where there is more to say. */
export class ConnectionLost extends Error {
  /** @param {string} message @param {unknown} [cause] */
  constructor(message, cause) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "ConnectionLost";
  }
}

/** A payload is not JSON, or a value has no form in JSON. */
export class CodecError extends Error {
  /** @param {string} message @param {unknown} [cause] */
  constructor(message, cause) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "CodecError";
  }
}

/**
 * What a protocol's rule was broken with.
 *
 * @typedef {object} Fault
 * @property {string} [code] what to tell the peer; PROTOCOL_ERROR by default
 * @property {string} [field] the offending field or limit
 * @property {number} [size] the offending value's size or number
 * @property {number} [limit] the limit that it passed
 */

/** Somebody broke the rules of the protocol; which of both is in the name of the subclass. */
export class ProtocolError extends Error {
  /** @param {string} message @param {Fault} [fault] */
  constructor(message, { code = "PROTOCOL_ERROR", field = "", size, limit } = {}) {
    super(message);
    this.name = "ProtocolError";
    /** What the peer is told. */
    this.code = code;
    /** The offending field or limit; empty where the order of events is at fault. */
    this.field = field;
    /** The offending value's size or number, where there is one. */
    this.size = size;
    /** The limit that it passed, where there is one. */
    this.limit = limit;
  }
}

/** You asked for something that the state or a limit forbids; nothing was sent and nothing has changed. */
export class LocalProtocolError extends ProtocolError {
  /** @param {string} message @param {Fault} [fault] */
  constructor(message, fault) {
    super(message, fault);
    this.name = "LocalProtocolError";
  }
}

/** The peer did something that the protocol or a limit forbids. */
export class RemoteProtocolError extends ProtocolError {
  /** @param {string} message @param {Fault} [fault] */
  constructor(message, fault) {
    super(message, fault);
    this.name = "RemoteProtocolError";
  }
}

// -- the wire: bytes and frames ------------------------------------------------------------------------------------------

const HEADER_BYTES = 12;
const MAX_PAYLOAD_BYTES = 16_384;
const ITEM_OVERHEAD_BYTES = 64;
const MAX_RUN_ITEMS = 4_096;
const MAX_REASON_BYTES = 1_024;
const U32 = 2 ** 32;
const RUN = 1;
const FIRST = 2;
const PIECE = 4;

const NAMES = [
  "",
  "HELLO",
  "OPEN",
  "HEADER",
  "DATA",
  "END",
  "RESET",
  "STOP",
  "CREDIT",
  "PING",
  "PONG",
  "ACK",
  "GOAWAY",
];
const [, HELLO, OPEN, HEADER, DATA, END, RESET, STOP, CREDIT, PING, PONG, ACK, GOAWAY] = NAMES.keys();
/** Frames that speak about the connection, so that no stream may be named in them. */
const CONNECTION_KINDS = new Set([HELLO, PING, PONG, ACK, GOAWAY]);
/** Frames that belong to a carrier, not to the session: they are not counted for a resume. */
const UNCOUNTED_KINDS = new Set([HELLO, PING, PONG, ACK]);

const encoder = new TextEncoder();
const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const PREFACE = encoder.encode(`${PROTOCOL}\n`);
const NOTHING = new Uint8Array(0);

/** @param {Uint8Array} bytes */
const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** @param {DataView} view @param {number} at @param {number} value */
function putU64(view, at, value) {
  view.setUint32(at, Math.floor(value / U32));
  view.setUint32(at + 4, value % U32);
}

/**
 * A number of 64 bits. What a double can't hold exactly becomes the largest that it can: as a limit that is as good as
 * none, and a stream can't have it for a number.
 *
 * @param {DataView} view @param {number} at
 */
function takeU64(view, at) {
  return Math.min(view.getUint32(at) * U32 + view.getUint32(at + 4), Number.MAX_SAFE_INTEGER);
}

/** @param {readonly Uint8Array[]} parts @param {number} size */
function join(parts, size) {
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/**
 * @param {number} kind @param {number} streamId @param {Uint8Array} payload @param {number} [flags]
 */
function makeFrame(kind, streamId, payload, flags = 0) {
  if (payload.length > MAX_PAYLOAD_BYTES) {
    throw new LocalProtocolError(
      `${NAMES[kind]} of ${payload.length} bytes does not fit into a frame of ${MAX_PAYLOAD_BYTES}`,
      { code: "MESSAGE_TOO_LARGE", field: NAMES[kind], size: payload.length, limit: MAX_PAYLOAD_BYTES },
    );
  }
  const frame = new Uint8Array(HEADER_BYTES + payload.length);
  const view = viewOf(frame);
  view.setUint8(0, kind);
  view.setUint8(1, flags);
  view.setUint16(2, payload.length);
  putU64(view, 4, streamId);
  frame.set(payload, HEADER_BYTES);
  return frame;
}

/** A record as JSON; what the peer would refuse is refused here. @param {number} kind @param {object} record */
function recordJson(kind, record) {
  const text = JSON.stringify(record, (key, value) => {
    if (typeof value === "number" && !Number.isFinite(value)) throw unencodable(kind, `${key} is not finite`);
    for (const string of [key, value]) {
      if (typeof string === "string" && /\p{Surrogate}/u.test(string)) {
        throw unencodable(kind, "it holds half of a surrogate pair");
      }
    }
    return value;
  });
  return encoder.encode(text);
}

/** @param {number} kind @param {string} why */
const unencodable = (kind, why) =>
  new LocalProtocolError(`${NAMES[kind]} can't be encoded: ${why}`, { field: NAMES[kind] });

/** @param {number} kind @param {Record<string, string>} pairs */
function checkPairs(kind, pairs) {
  for (const [key, value] of Object.entries(pairs)) {
    if (typeof value !== "string") throw unencodable(kind, `metadata ${JSON.stringify(key)} is not a string`);
  }
  return pairs;
}

/** @param {object} pairs */
const isEmpty = (pairs) => Object.keys(pairs).length === 0;

/** At most 1 KiB of words, cut between characters. @param {string} reason */
function cutReason(reason) {
  const bytes = encoder.encode(reason.slice(0, MAX_REASON_BYTES));
  if (bytes.length <= MAX_REASON_BYTES) return bytes;
  let end = MAX_REASON_BYTES;
  while ((bytes[end] & 0xc0) === 0x80) end -= 1;
  return bytes.subarray(0, end);
}

/**
 * What each side says first; see `trio_streams.core.records.Hello`.
 *
 * @typedef {object} Hello
 * @property {string} session_id
 * @property {number} frames_received
 * @property {number} window_items
 * @property {number} window_bytes
 * @property {number} connection_bytes
 * @property {number} max_streams
 * @property {number} max_item_bytes
 * @property {number} idle_timeout_ms
 * @property {string} agent
 * @property {string[]} features
 */

/** Frames on their way out. Defaults are left out, as on the Python side, so that the bytes are the same. */
const encode = {
  /** @param {Partial<Hello> & {session_id: string}} hello */
  hello(hello) {
    const kept = Object.entries(hello).filter(([, value]) => value !== 0 && value !== "" && String(value) !== "");
    return makeFrame(HELLO, 0, recordJson(HELLO, { session_id: hello.session_id, ...Object.fromEntries(kept) }));
  },
  /**
   * @param {number} id @param {string} name
   * @param {{metadata?: Record<string, string>, priority?: number, timeoutMs?: number | null, windowItems?: number,
   *   windowBytes?: number}} [options]
   */
  open(id, name, { metadata = {}, priority = 0, timeoutMs = null, windowItems = 0, windowBytes = 0 } = {}) {
    const record = {
      name,
      metadata: isEmpty(checkPairs(OPEN, metadata)) ? undefined : metadata,
      priority: priority || undefined,
      timeout_ms: timeoutMs ?? undefined,
      window_items: windowItems || undefined,
      window_bytes: windowBytes || undefined,
    };
    return makeFrame(OPEN, id, recordJson(OPEN, record));
  },
  /** @param {number} id @param {Record<string, string>} metadata */
  header: (id, metadata) => makeFrame(HEADER, id, recordJson(HEADER, checkPairs(HEADER, metadata))),
  /** A run of whole items as one frame; the caller keeps it within a frame's size. @param {number} id @param {readonly Uint8Array[]} items */
  run(id, items) {
    if (items.length === 1) return makeFrame(DATA, id, items[0]);
    const table = 2 + 2 * items.length;
    let size = table;
    for (const item of items) size += item.length;
    const frame = new Uint8Array(HEADER_BYTES + size);
    const view = viewOf(frame);
    view.setUint8(0, DATA);
    view.setUint8(1, RUN);
    view.setUint16(2, size);
    putU64(view, 4, id);
    view.setUint16(HEADER_BYTES, items.length);
    let lengthAt = HEADER_BYTES + 2;
    let at = HEADER_BYTES + table;
    for (const item of items) {
      view.setUint16(lengthAt, item.length);
      frame.set(item, at);
      lengthAt += 2;
      at += item.length;
    }
    return frame;
  },
  /** The first bytes of an item larger than a frame. @param {number} id @param {Uint8Array} data @param {number} total */
  first(id, data, total) {
    const payload = new Uint8Array(4 + data.length);
    viewOf(payload).setUint32(0, total);
    payload.set(data, 4);
    return makeFrame(DATA, id, payload, FIRST);
  },
  /** Further bytes of it. @param {number} id @param {Uint8Array} data */
  piece: (id, data) => makeFrame(DATA, id, data, PIECE),
  /**
   * @param {number} id @param {{code?: string, message?: string, details?: unknown}} [status]
   * @param {Record<string, string>} [trailers]
   */
  end(id, { code = "OK", message = "", details = null } = {}, trailers = {}) {
    const record = {
      code: code === "OK" ? undefined : code,
      message: message || undefined,
      details: details ?? undefined,
      trailers: isEmpty(checkPairs(END, trailers)) ? undefined : trailers,
    };
    const payload = recordJson(END, record);
    return makeFrame(END, id, payload.length === 2 ? NOTHING : payload);
  },
  /** @param {number} id @param {string} code @param {string} [reason] */
  reset: (id, code, reason = "") => makeFrame(RESET, id, codeAndReason(code, reason)),
  /** @param {number} id @param {string} code @param {string} [reason] */
  stop: (id, code, reason = "") => makeFrame(STOP, id, codeAndReason(code, reason)),
  /** Absolute limits: of items and bytes, or on stream 0 of streams and bytes. @param {number} id @param {number} count @param {number} bytes */
  credit: (id, count, bytes) => makeFrame(CREDIT, id, numbers(count, bytes)),
  /** @param {number} number */
  ping: (number) => makeFrame(PING, 0, numbers(number)),
  /** @param {Uint8Array} echo the ping's payload */
  pong: (echo) => makeFrame(PONG, 0, echo),
  /** @param {number} frames */
  ack: (frames) => makeFrame(ACK, 0, numbers(frames)),
  /** @param {string} code @param {string} reason @param {number} lastStream */
  goAway(code, reason, lastStream) {
    const words = cutReason(reason);
    const payload = new Uint8Array(12 + words.length);
    viewOf(payload).setUint32(0, codeNumber(code));
    putU64(viewOf(payload), 4, lastStream);
    payload.set(words, 12);
    return makeFrame(GOAWAY, 0, payload);
  },
};

/** @param {string} code @param {string} reason */
function codeAndReason(code, reason) {
  const words = cutReason(reason);
  const payload = new Uint8Array(4 + words.length);
  viewOf(payload).setUint32(0, codeNumber(code));
  payload.set(words, 4);
  return payload;
}

/** @param {...number} values */
function numbers(...values) {
  const payload = new Uint8Array(8 * values.length);
  values.forEach((value, index) => putU64(viewOf(payload), 8 * index, value));
  return payload;
}

/** Items of one stream as they came: one payload, and where in it each of them begins and ends. */
class Run {
  /** All items as text, where each byte of it is a character. @type {string | null | undefined} */
  #text;

  /** @param {Uint8Array} data @param {ArrayLike<number>} bounds one more than items */
  constructor(data, bounds) {
    /** @readonly */
    this.data = data;
    /** @readonly */
    this.bounds = bounds;
    /** How many items. @readonly */
    this.count = bounds.length - 1;
  }

  /** What the items cost in credit. */
  get cost() {
    return this.bounds[this.count] - this.bounds[0] + ITEM_OVERHEAD_BYTES * this.count;
  }

  /** What one item costs in credit. @param {number} index */
  costOf(index) {
    return this.bounds[index + 1] - this.bounds[index] + ITEM_OVERHEAD_BYTES;
  }

  /** One item's bytes, in a buffer of their own. @param {number} index */
  bytes(index) {
    return this.data.slice(this.bounds[index], this.bounds[index + 1]);
  }

  /** One item's value. @param {number} index @returns {any} */
  value(index) {
    const start = this.bounds[index];
    const end = this.bounds[index + 1];
    if (this.#text === undefined) this.#text = this.count > 1 ? this.#asAscii() : null;
    if (this.#text !== null) return parseItem(this.#text.slice(start, end));
    try {
      return parseItem(strictDecoder.decode(this.data.subarray(start, end)));
    } catch (error) {
      throw error instanceof CodecError ? error : new CodecError(`an item of ${end - start} bytes is not UTF-8`, error);
    }
  }

  /** One call for all of them. Where it gives a character for each byte, the bounds fit the text, too. */
  #asAscii() {
    try {
      const text = strictDecoder.decode(this.data);
      return text.length === this.data.length ? text : null;
    } catch {
      return null;
    }
  }
}

/** @param {string} text */
function parseItem(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CodecError(`an item of ${text.length} characters is not JSON: ${/** @type {Error} */ (error).message}`, error);
  }
}

/**
 * A frame as it was decoded.
 *
 * @typedef {object} Frame
 * @property {number} kind its type's number
 * @property {number} id its stream; 0 is the connection
 * @property {Run} [run] whole items
 * @property {Uint8Array} [data] a piece of a large item; what a ping says
 * @property {number} [total] that item's length, with its first piece only
 * @property {string} [code] of RESET, STOP and GOAWAY
 * @property {string} [reason] of the same
 * @property {number} [count] the first number of CREDIT, PONG and ACK, and GOAWAY's stream
 * @property {number} [bytes] the second one of CREDIT
 * @property {any} [record] what travels as JSON
 * @property {RemoteProtocolError} [error] what is wrong with the input; the last frame of all
 */

/** @param {string} field @param {number} size @param {string} message @param {number} [limit] */
const malformed = (field, size, message, limit) => new RemoteProtocolError(message, { field, size, limit });

/** Bytes on their way in: frames of them, wherever they were cut. One for each connection. */
class Decoder {
  constructor() {
    this._prefaceSeen = 0;
    this._tail = NOTHING;
    this._tailBytes = 0;
    this._isBroken = false;
  }

  /**
   * Every frame that is complete with this chunk. A fault comes last, as a frame with an `error`, and nothing after it.
   *
   * @param {Uint8Array} chunk
   * @returns {Frame[]}
   */
  decode(chunk) {
    /** @type {Frame[]} */
    const frames = [];
    if (this._isBroken) return frames;
    try {
      this._decode(chunk, frames);
    } catch (error) {
      if (!(error instanceof RemoteProtocolError)) throw error;
      this._isBroken = true;
      frames.push({ kind: 0, id: 0, error });
    }
    return frames;
  }

  /** @param {Uint8Array} chunk @param {Frame[]} frames */
  _decode(chunk, frames) {
    let at = this._prefaceSeen < PREFACE.length ? this._takePreface(chunk) : 0;
    while (at < chunk.length) {
      if (this._tailBytes === 0 && chunk.length - at >= HEADER_BYTES) {
        const size = frameBytes(viewOf(chunk), at);
        if (chunk.length - at >= size) {
          frames.push(decodeFrame(chunk.subarray(at, at + size)));
          at += size;
          continue;
        }
      }
      at = this._keep(chunk, at, frames);
    }
  }

  /** Fill the tail up to the end of its frame, and no further. @param {Uint8Array} chunk @param {number} at @param {Frame[]} frames */
  _keep(chunk, at, frames) {
    if (this._tail.length === 0) this._tail = new Uint8Array(HEADER_BYTES + MAX_PAYLOAD_BYTES);
    const isHeadHere = this._tailBytes >= HEADER_BYTES;
    const wanted = isHeadHere ? frameBytes(viewOf(this._tail), 0) : HEADER_BYTES;
    const part = chunk.subarray(at, at + wanted - this._tailBytes);
    this._tail.set(part, this._tailBytes);
    this._tailBytes += part.length;
    if (this._tailBytes >= HEADER_BYTES && this._tailBytes === frameBytes(viewOf(this._tail), 0)) {
      frames.push(decodeFrame(this._tail.slice(0, this._tailBytes)));
      this._tailBytes = 0;
    }
    return at + part.length;
  }

  /** @param {Uint8Array} chunk */
  _takePreface(chunk) {
    const end = Math.min(PREFACE.length - this._prefaceSeen, chunk.length);
    for (let at = 0; at < end; at += 1) {
      const where = this._prefaceSeen + at;
      if (chunk[at] === PREFACE[where]) continue;
      throw malformed(
        "preface",
        where,
        `the peer does not speak ${PROTOCOL}: its byte ${where} is not the preface's`,
        PREFACE.length,
      );
    }
    this._prefaceSeen += end;
    return end;
  }
}

/** @param {DataView} view @param {number} at */
function frameBytes(view, at) {
  const size = HEADER_BYTES + view.getUint16(at + 2);
  const limit = HEADER_BYTES + MAX_PAYLOAD_BYTES;
  if (size > limit) {
    throw malformed("max_frame_bytes", size, `a frame of ${size} bytes passes max_frame_bytes of ${limit}`, limit);
  }
  return size;
}

/** @param {Uint8Array} frame @returns {Frame} */
function decodeFrame(frame) {
  const view = viewOf(frame);
  const kind = view.getUint8(0);
  const flags = view.getUint8(1);
  const id = takeU64(view, 4);
  const payload = frame.subarray(HEADER_BYTES);
  if (id === Number.MAX_SAFE_INTEGER) {
    throw malformed("stream_id", id, `the peer named a stream of 2^53-1 or more, which was never opened`, id);
  }
  if (kind === DATA) return decodeData(id, flags, payload);
  if (flags && kind > 0 && kind < NAMES.length) {
    throw malformed("flags", flags, `${NAMES[kind]} has unknown flags ${flags}`);
  }
  if (id && CONNECTION_KINDS.has(kind)) {
    throw malformed("stream_id", id, `the peer sent ${NAMES[kind]} on stream ${id}, not on 0`);
  }
  const decode = DECODERS[kind];
  if (decode === undefined) throw malformed("type", kind, `the peer sent a frame of unknown type ${kind}`);
  return { kind, id, ...decode(payload) };
}

/** A chunk that is kept for the sake of a small part of it is copied: a reader must not pin what it did not pay for. @param {Uint8Array} payload */
const owned = (payload) => (payload.length * 2 < payload.buffer.byteLength ? payload.slice() : payload);

/** @param {number} id @param {number} flags @param {Uint8Array} payload @returns {Frame} */
function decodeData(id, flags, payload) {
  if (flags === 0) return { kind: DATA, id, run: new Run(owned(payload), [0, payload.length]) };
  if (flags === RUN) return { kind: DATA, id, run: decodeRun(payload) };
  if (flags === PIECE) return { kind: DATA, id, data: owned(payload) };
  if (flags !== FIRST) throw malformed("flags", flags, `DATA has unknown flags ${flags}`);
  if (payload.length < 4) {
    throw malformed("DATA", payload.length, `a first piece of ${payload.length} bytes lacks its total`, 4);
  }
  return { kind: DATA, id, data: owned(payload.subarray(4)), total: viewOf(payload).getUint32(0) };
}

/** @param {Uint8Array} payload */
function decodeRun(payload) {
  const size = payload.length;
  const view = viewOf(payload);
  const count = size < 2 ? 0 : view.getUint16(0);
  const table = 2 + 2 * count;
  if (count === 0 || table > size) {
    throw malformed("DATA", count, `a run of ${count} items does not fit into ${size} bytes`, size);
  }
  const bounds = new Uint32Array(count + 1);
  let end = 0;
  for (let index = 0; index < count; index += 1) {
    end += view.getUint16(2 + 2 * index);
    bounds[index + 1] = end;
  }
  if (table + end !== size) {
    const message = `a run's lengths add up to ${table + end}, its frame has ${size} bytes`;
    throw malformed("DATA", table + end, message, size);
  }
  return new Run(owned(payload.subarray(table)), bounds);
}

/** @param {Uint8Array} bytes @param {string} field */
function takeText(bytes, field) {
  try {
    return strictDecoder.decode(bytes);
  } catch {
    throw malformed(field, bytes.length, `${field} of ${bytes.length} bytes is not UTF-8`);
  }
}

/** @param {Uint8Array} bytes @param {string} field @returns {Record<string, any>} */
function takeJson(bytes, field) {
  let value;
  try {
    value = JSON.parse(takeText(bytes, field), checkScalar);
  } catch (error) {
    const { message } = /** @type {Error} */ (error);
    throw malformed(field, bytes.length, `${field} of ${bytes.length} bytes can't be decoded: ${message}`);
  }
  check(typeof value === "object" && value !== null && !Array.isArray(value), field, "an object", value);
  return value;
}

/** What JSON can say and no value should be: half of a surrogate pair, a number beyond all. @param {string} _ @param {unknown} value */
function checkScalar(_, value) {
  if (typeof value === "string" && /\p{Surrogate}/u.test(value)) throw new TypeError("half of a surrogate pair");
  if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError("a number is out of range");
  return value;
}

/** @param {boolean} isRight @param {string} field @param {string} expected @param {unknown} value */
function check(isRight, field, expected, value) {
  if (isRight) return;
  const size = typeof value === "number" ? value : undefined;
  const shown = String(JSON.stringify(value)).slice(0, 100);
  throw new RemoteProtocolError(`${field} is ${shown}, not ${expected}`, { field, size });
}

/** @param {Record<string, any>} record @param {string} field @param {string} name @param {string} [otherwise] */
function takeString(record, field, name, otherwise) {
  const value = Object.hasOwn(record, name) ? record[name] : otherwise;
  check(typeof value === "string", `${field}.${name}`, "a string", value);
  return value;
}

/** @param {Record<string, any>} record @param {string} field @param {string} name */
function takeCount(record, field, name) {
  const value = Object.hasOwn(record, name) ? record[name] : 0;
  check(Number.isInteger(value) && value >= 0 && value <= 2 ** 63, `${field}.${name}`, "an integer of 0 to 2^63-1", value);
  return Math.min(value, Number.MAX_SAFE_INTEGER);
}

/** @param {unknown} value @param {string} field @returns {Record<string, string>} */
function takePairs(value, field) {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  check(isObject, field, "an object of strings", value);
  const pairs = /** @type {Record<string, string>} */ (value);
  for (const inner of Object.values(pairs)) check(typeof inner === "string", field, "an object of strings", inner);
  return pairs;
}

/** @param {Uint8Array} payload @param {number} count @param {string} field */
function takeNumbers(payload, count, field) {
  if (payload.length !== 8 * count) {
    throw malformed(field, payload.length, `${field} has ${payload.length} bytes of payload, not ${8 * count}`, 8 * count);
  }
  return viewOf(payload);
}

/** @param {Uint8Array} payload @param {string} field @param {number} head */
function takeCode(payload, field, head) {
  if (payload.length < head) {
    const lacking = head === 4 ? "its code" : "its code and stream";
    throw malformed(field, payload.length, `${field} of ${payload.length} bytes lacks ${lacking}`, head);
  }
  const code = CODE_NAMES.get(viewOf(payload).getUint32(0)) ?? "UNKNOWN";
  return { code, reason: takeText(payload.subarray(head), `${field}.reason`) };
}

const HELLO_COUNTS = [
  "frames_received",
  "window_items",
  "window_bytes",
  "connection_bytes",
  "max_streams",
  "max_item_bytes",
  "idle_timeout_ms",
];

/** @type {Record<number, (payload: Uint8Array) => Partial<Frame>>} */
const DECODERS = {
  [HELLO](payload) {
    const raw = takeJson(payload, "HELLO");
    const features = Object.hasOwn(raw, "features") ? raw.features : [];
    const areStrings = Array.isArray(features) && features.every((feature) => typeof feature === "string");
    check(areStrings, "HELLO.features", "an array of strings", features);
    const counts = HELLO_COUNTS.map((name) => [name, takeCount(raw, "HELLO", name)]);
    const session_id = takeString(raw, "HELLO", "session_id");
    const agent = takeString(raw, "HELLO", "agent", "");
    return { record: { session_id, ...Object.fromEntries(counts), agent, features } };
  },
  [OPEN](payload) {
    const raw = takeJson(payload, "OPEN");
    const { metadata = {}, priority = 0, timeout_ms = null } = raw;
    const isByte = Number.isInteger(priority) && priority >= -128 && priority <= 127;
    check(isByte, "OPEN.priority", "an integer of -128 to 127", priority);
    const record = {
      name: takeString(raw, "OPEN", "name"),
      metadata: takePairs(metadata, "OPEN.metadata"),
      priority,
      timeout_ms: timeout_ms === null ? null : takeCount(raw, "OPEN", "timeout_ms"),
      window_items: takeCount(raw, "OPEN", "window_items"),
      window_bytes: takeCount(raw, "OPEN", "window_bytes"),
    };
    return { record };
  },
  [HEADER]: (payload) => ({ record: takePairs(takeJson(payload, "HEADER"), "HEADER") }),
  [END](payload) {
    const raw = payload.length === 0 ? {} : takeJson(payload, "END");
    const { details = null, trailers = {} } = raw;
    const words = { code: takeString(raw, "END", "code", "OK"), message: takeString(raw, "END", "message", "") };
    return { record: { ...words, details, trailers: takePairs(trailers, "END.trailers") } };
  },
  [RESET]: (payload) => takeCode(payload, "RESET", 4),
  [STOP]: (payload) => takeCode(payload, "STOP", 4),
  [CREDIT](payload) {
    const view = takeNumbers(payload, 2, "CREDIT");
    return { count: takeU64(view, 0), bytes: takeU64(view, 8) };
  },
  [PING](payload) {
    takeNumbers(payload, 1, "PING");
    return { data: payload.slice() };
  },
  [PONG]: (payload) => ({ count: takeU64(takeNumbers(payload, 1, "PONG"), 0) }),
  [ACK]: (payload) => ({ count: takeU64(takeNumbers(payload, 1, "ACK"), 0) }),
  [GOAWAY]: (payload) => ({ ...takeCode(payload, "GOAWAY", 12), count: takeU64(viewOf(payload), 4) }),
};

// -- credit: absolute limits that only grow ------------------------------------------------------------------------------

/** How much we may send. */
class SendCredit {
  /** @param {number} itemLimit @param {number} byteLimit */
  constructor(itemLimit, byteLimit) {
    this.items = 0;
    this.bytes = 0;
    this.itemLimit = itemLimit;
    this.byteLimit = byteLimit;
  }

  /** Whether one more item may start: the one that crosses the byte limit is taken, so that a large one can pass. */
  get isOpen() {
    return this.items < this.itemLimit && this.bytes < this.byteLimit;
  }

  /** A smaller limit is an older one that was overtaken. @param {number} items @param {number} bytes */
  raise(items, bytes) {
    const grew = items > this.itemLimit || bytes > this.byteLimit;
    this.itemLimit = Math.max(this.itemLimit, items);
    this.byteLimit = Math.max(this.byteLimit, bytes);
    return grew;
  }
}

/**
 * How much the peer may send us. A grant is due when a quarter of a window was consumed. A connection's bytes are consumed
 * out of order, and one stream that nobody reads may hold most of them for ever: so an eager credit also grants when less
 * than a quarter is left.
 */
class ReceiveCredit {
  /** @param {number} windowItems @param {number} windowBytes @param {boolean} [isEager] */
  constructor(windowItems, windowBytes, isEager = false) {
    this.windowItems = windowItems;
    this.windowBytes = windowBytes;
    this.itemLimit = windowItems;
    this.byteLimit = windowBytes;
    this.items = 0;
    this.bytes = 0;
    this.consumedItems = 0;
    this.consumedBytes = 0;
    this._isEager = isEager;
  }

  /** Charge what arrived; only the last item may cross the byte limit. @param {number} items @param {number} bytes @param {number} last */
  receive(items, bytes, last) {
    if (items && this.items + items > this.itemLimit) throw this._violation("window_items", this.items + items, this.itemLimit);
    if (this.bytes + bytes - last >= this.byteLimit) {
      throw this._violation("window_bytes", this.bytes + bytes, this.byteLimit);
    }
    this.items += items;
    this.bytes += bytes;
  }

  /** @param {string} name @param {number} size @param {number} limit */
  _violation(name, size, limit) {
    const field = this._isEager ? `connection_${name}` : name;
    const message = `the peer sent ${size} on a ${this._isEager ? "connection" : "stream"} whose ${field} limit is ${limit}`;
    return new RemoteProtocolError(message, { code: "FLOW_CONTROL_ERROR", field, size, limit });
  }

  /** Whether the peer should be told of new limits. */
  get isDue() {
    const items = this.consumedItems + this.windowItems - this.itemLimit;
    const bytes = this.consumedBytes + this.windowBytes - this.byteLimit;
    if (items > 0 && items * 4 >= this.windowItems) return true;
    if (bytes * 4 >= this.windowBytes) return true;
    return this._isEager && bytes > 0 && (this.byteLimit - this.bytes) * 4 < this.windowBytes;
  }

  /** Raise the limits to what consumption allows. */
  grant() {
    this.itemLimit = this.consumedItems + this.windowItems;
    this.byteLimit = this.consumedBytes + this.windowBytes;
  }

  get unconsumedBytes() {
    return this.bytes - this.consumedBytes;
  }
}

// -- one stream's machine ------------------------------------------------------------------------------------------------

/**
 * The state of one direction. Closing: the end is known, and what came before it still drains.
 *
 * @typedef {"open" | "closing" | "closed" | "errored"} HalfState
 */

/** @param {HalfState} state */
const isFinished = (state) => state === "closed" || state === "errored";

/** One stream: two halves, their credit, and what waits to be sent. */
class StreamMachine {
  /** @param {number} id @param {SendCredit} sendCredit @param {ReceiveCredit} receiveCredit @param {number} priority */
  constructor(id, sendCredit, receiveCredit, priority) {
    this.id = id;
    this.sendCredit = sendCredit;
    this.receiveCredit = receiveCredit;
    this.priority = priority;
    this.sendState = /** @type {HalfState} */ ("open");
    this.receiveState = /** @type {HalfState} */ ("open");
    this.queuedBytes = 0;
    this.isBlocked = false;
    this.isReleased = false;
    /** @type {Uint8Array[]} */
    this._queue = [];
    /** @type {Uint8Array | null} */
    this._cut = null;
    /** @type {Uint8Array | null} */
    this._head = null;
    /** @type {Uint8Array | null} */
    this._end = null;
    this._headReceived = false;
    /** @type {{parts: Uint8Array[], total: number, left: number} | null} */
    this._assembly = null;
  }

  get queuedItems() {
    return this._queue.length;
  }

  get hasOutput() {
    return this._queue.length > 0 || this._cut !== null || this._head !== null || this._end !== null;
  }

  /** Whether the next thing to send is a new item. */
  get needsConnectionCredit() {
    return this._queue.length > 0 && this._cut === null && this._head === null;
  }

  get isFinished() {
    return isFinished(this.sendState) && isFinished(this.receiveState);
  }

  /** @param {string} action */
  requireOpen(action) {
    if (this.sendState !== "open") throw new LocalProtocolError(`can't ${action} in state ${this.sendState}`);
  }

  /**
   * Queue payloads while there is credit and room; a stream that has nothing queued may always queue one item.
   *
   * @param {readonly Uint8Array[]} payloads @param {number} room bytes that the send buffer still takes
   * @returns {number} how many were taken
   */
  send(payloads, room) {
    this.requireOpen("send");
    const credit = this.sendCredit;
    let taken = 0;
    for (const payload of payloads) {
      if (!credit.isOpen || (room <= 0 && this._queue.length > 0)) break;
      const charge = payload.length + ITEM_OVERHEAD_BYTES;
      this._queue.push(payload);
      credit.items += 1;
      credit.bytes += charge;
      this.queuedBytes += charge;
      room -= charge;
      taken += 1;
    }
    if (taken < payloads.length) this.isBlocked = true;
    return taken;
  }

  /** @param {Uint8Array} frame */
  head(frame) {
    this.requireOpen("send a header");
    if (this.sendCredit.items || this._head) {
      throw new LocalProtocolError("can't send a header after the first item or twice");
    }
    this._head = frame;
  }

  /** @param {Uint8Array} frame */
  end(frame) {
    this.requireOpen("end");
    this.sendState = "closing";
    this._end = frame;
    this.isBlocked = false;
  }

  /** Drop our half and what is queued of it. @returns {boolean} whether it was still alive */
  abandon() {
    if (isFinished(this.sendState)) return false;
    this.sendState = "errored";
    this.isBlocked = false;
    this.queuedBytes = 0;
    this._queue = [];
    this._head = this._end = this._cut = null;
    return true;
  }

  /**
   * The next frame, in order; null where nothing fits.
   *
   * @param {number} maxBytes what this turn may still send
   * @param {number} connectionRoom an item may start while it is above 0
   * @returns {Uint8Array | null}
   */
  pull(maxBytes, connectionRoom) {
    if (this._head !== null) {
      const head = this._head;
      this._head = null;
      return head;
    }
    if (this._cut !== null) return this._pullPiece(this._cut, maxBytes);
    if (this._queue.length > 0) return connectionRoom > 0 ? this._pullRun(maxBytes, connectionRoom) : null;
    const end = this._end;
    if (end !== null) {
      this._end = null;
      this.sendState = "closed";
    }
    return end;
  }

  /** @param {Uint8Array} rest @param {number} maxBytes */
  _pullPiece(rest, maxBytes) {
    const size = Math.min(maxBytes, MAX_PAYLOAD_BYTES, rest.length);
    if (size <= 0) return null;
    this._cut = size < rest.length ? rest.subarray(size) : null;
    return encode.piece(this.id, rest.subarray(0, size));
  }

  /** @param {number} maxBytes @param {number} connectionRoom */
  _pullRun(maxBytes, connectionRoom) {
    const queue = this._queue;
    const most = MAX_PAYLOAD_BYTES - 2;
    const first = queue[0];
    if (first.length > most) {
      queue.shift();
      this.queuedBytes -= first.length + ITEM_OVERHEAD_BYTES;
      const size = Math.max(1, Math.min(maxBytes, MAX_PAYLOAD_BYTES - 4));
      this._cut = first.subarray(size);
      return encode.first(this.id, first.subarray(0, size), first.length);
    }
    let room = Math.min(maxBytes, most);
    let count = 0;
    let charged = 0;
    while (count < queue.length && count < MAX_RUN_ITEMS && charged < connectionRoom) {
      const size = queue[count].length + 2;
      if (size > room && (count > 0 || size > maxBytes)) break;
      room -= size;
      charged += size - 2 + ITEM_OVERHEAD_BYTES;
      count += 1;
    }
    if (count === 0) return null;
    this.queuedBytes -= charged;
    return encode.run(this.id, queue.splice(0, count));
  }

  /** Whole items arrived. @param {Run} run @returns {boolean} whether they are wanted; after our STOP they are not */
  receiveRun(run) {
    if (this._assembly !== null) {
      throw new RemoteProtocolError("the peer sent an item between the pieces of another one", { field: "piece" });
    }
    return this._charge(run.count, run.cost, run.costOf(run.count - 1));
  }

  /** The first piece of a large item arrived. @param {Uint8Array} data @param {number} total */
  receiveFirst(data, total) {
    if (this._assembly !== null) {
      throw new RemoteProtocolError("the peer began an item between the pieces of another one", { field: "piece" });
    }
    if (data.length >= total) {
      const message = `the first piece of ${data.length} bytes holds all of an item announced with ${total}`;
      throw malformed("piece", data.length, message, total);
    }
    const charge = total + ITEM_OVERHEAD_BYTES;
    if (!this._charge(1, charge, charge)) return false;
    this._assembly = { parts: [data], total, left: total - data.length };
    return true;
  }

  /** A further piece arrived. @param {Uint8Array} data @returns {Run | null} the item that it completes */
  receivePiece(data) {
    if (this.receiveState === "errored") return null;
    const assembly = this._assembly;
    if (assembly === null) {
      throw new RemoteProtocolError("the peer sent a piece of an item that it never began", { field: "piece" });
    }
    if (data.length > assembly.left) {
      const message = `the pieces of an item are ${data.length - assembly.left} bytes longer than announced`;
      throw malformed("piece", data.length, message, assembly.left);
    }
    assembly.left -= data.length;
    addPart(assembly.parts, data);
    if (assembly.left > 0) return null;
    this._assembly = null;
    return new Run(join(assembly.parts, assembly.total), [0, assembly.total]);
  }

  /** @param {number} count @param {number} size @param {number} last */
  _charge(count, size, last) {
    if (this.receiveState === "open") {
      this.receiveCredit.receive(count, size, last);
      return true;
    }
    if (this.receiveState === "errored") return false; // RESET or STOP crossed the data on the wire
    throw new RemoteProtocolError("the peer sent an item after the end of its half");
  }

  receiveHeader() {
    if (this.receiveState === "errored") return false;
    if (this._headReceived || this.receiveCredit.items || this.receiveState !== "open") {
      throw new RemoteProtocolError("the peer sent a header after its first item or twice", { field: "header" });
    }
    this._headReceived = true;
    return true;
  }

  receiveEnd() {
    if (this.receiveState === "errored") return false;
    if (this.receiveState !== "open") throw new RemoteProtocolError("the peer ended its half twice");
    if (this._assembly !== null) {
      const message = `the peer ended its half ${this._assembly.left} bytes before the end of an item`;
      throw new RemoteProtocolError(message, { field: "piece" });
    }
    this.receiveState = "closing";
    this._closeIfDrained();
    return true;
  }

  /** The peer's half is refused by us, or abandoned by the peer. @returns {HalfState | null} the state before, null where it was over */
  refuse() {
    const before = this.receiveState;
    if (isFinished(before)) return null;
    this.receiveState = "errored";
    this._assembly = null;
    return before;
  }

  /** @param {number} items @param {number} size @returns {boolean} whether a grant is due */
  consume(items, size) {
    this.receiveCredit.consumedItems += items;
    this.receiveCredit.consumedBytes += size;
    this._closeIfDrained();
    return this.receiveState === "open" && this.receiveCredit.isDue;
  }

  /** Nobody will take what has arrived. @returns {number} the bytes that this gives back to the connection */
  settle() {
    const credit = this.receiveCredit;
    const freed = credit.unconsumedBytes;
    credit.consumedItems = credit.items;
    credit.consumedBytes = credit.bytes;
    this._closeIfDrained();
    return freed;
  }

  _closeIfDrained() {
    const credit = this.receiveCredit;
    if (this.receiveState === "closing" && credit.consumedItems >= credit.items) this.receiveState = "closed";
  }
}

/** An item that comes two bytes at a time must not cost thirty times its size. @param {Uint8Array[]} parts @param {Uint8Array} data */
function addPart(parts, data) {
  const last = parts[parts.length - 1];
  if (last.length + data.length > 1_024) {
    parts.push(data);
    return;
  }
  parts[parts.length - 1] = join([last, data], last.length + data.length);
}

// -- who sends next ------------------------------------------------------------------------------------------------------

const QUANTUM_BYTES = 16_384;
const LOWER_EVERY = 16;

/** By priority, byte-deficit round-robin within one, and one turn in sixteen for the lower ones in rotation. */
class Scheduler {
  constructor() {
    /** @type {Map<number, Set<StreamMachine>>} */
    this._levels = new Map();
    /** @type {Map<StreamMachine, number>} */
    this._deficits = new Map();
    this._turns = 0;
    this._rotation = 0;
  }

  get isEmpty() {
    return this._levels.size === 0;
  }

  /** @param {StreamMachine} stream */
  push(stream) {
    const level = this._levels.get(stream.priority);
    if (level === undefined) this._levels.set(stream.priority, new Set([stream]));
    else level.add(stream);
  }

  /** @param {StreamMachine} stream */
  discard(stream) {
    this._deficits.delete(stream);
    const level = this._levels.get(stream.priority);
    if (level?.delete(stream) && level.size === 0) this._levels.delete(stream.priority);
  }

  /** Whose turn it is, and what it may send. @returns {[StreamMachine, number]} */
  pick() {
    const level = /** @type {Set<StreamMachine>} */ (this._levels.get(this._chooseLevel()));
    const [stream] = level;
    return [stream, QUANTUM_BYTES + (this._deficits.get(stream) ?? 0)];
  }

  _chooseLevel() {
    const ordered = [...this._levels.keys()];
    if (ordered.length === 1) return ordered[0];
    ordered.sort((a, b) => b - a);
    this._turns += 1;
    if (this._turns % LOWER_EVERY) return ordered[0];
    this._rotation += 1;
    return ordered[1 + (this._rotation % (ordered.length - 1))];
  }

  /** @param {StreamMachine} stream @param {number} size @param {boolean} hasMore */
  spent(stream, size, hasMore) {
    const left = QUANTUM_BYTES + (this._deficits.get(stream) ?? 0) - size;
    this.discard(stream);
    if (!hasMore) return;
    this.push(stream);
    this._deficits.set(stream, Math.min(left, QUANTUM_BYTES));
  }
}

// -- the machine of a connection -----------------------------------------------------------------------------------------

/**
 * Limits and timeouts of one connection.
 *
 * @typedef {object} Limits
 * @property {number} windowItems items of one stream that the peer may send ahead of what was taken
 * @property {number} windowBytes bytes of one stream, an item at its length and 64; the item that crosses it is taken
 * @property {number} connectionBytes bytes that all streams together may hold unread
 * @property {number} maxStreams streams that the peer may have open at once
 * @property {number} maxItemBytes the largest item, in both directions
 * @property {number} maxSendBufferBytes bytes queued before senders wait
 * @property {number} maxControlBytes bytes of answers that we may come to owe a peer that reads nothing
 * @property {number} handshakeTimeout milliseconds for the peer's hello
 * @property {number} idleTimeout milliseconds of silence after which the connection is lost, 0 for never; a ping goes out
 *   at half of it
 */

/** @type {Readonly<Limits>} */
export const DEFAULT_LIMITS = Object.freeze({
  windowItems: 256,
  windowBytes: 262_144,
  connectionBytes: 16_777_216,
  maxStreams: 0,
  maxItemBytes: 16_777_216,
  maxSendBufferBytes: 1_048_576,
  maxControlBytes: 262_144,
  handshakeTimeout: 10_000,
  idleTimeout: 60_000,
});

/**
 * What a machine tells: `greeted`, `opened`, `headed`, `received`, `ended`, `reset`, `stopped`, `writable`,
 * `streams-allowed`, `went-away`, `failed`, and of a session `resumed` and `carrier-failed`.
 *
 * @typedef {object} MachineEvent
 * @property {string} type
 * @property {number} id the stream; 0 for the connection
 * @property {Run} [run] of `received`
 * @property {any} [record] of `greeted`, `opened`, `headed` and `ended`
 * @property {string} [code] of `reset`, `stopped` and `went-away`
 * @property {string} [reason] of the same
 * @property {ProtocolError} [error] of `failed`, which is the last one, and of `carrier-failed`
 */

/**
 * Many streams on one carrier, without a clock, a task or a carrier in it: `receive` and commands in, `takeEvents` and
 * `toSend` out. A peer's fault raises nothing: it becomes a GOAWAY and the event `failed`.
 */
class Machine {
  /**
   * @param {object} options
   * @param {string} options.sessionId names the session to the peer
   * @param {number} options.now milliseconds, on the clock of all later calls
   * @param {boolean} [options.isClient]
   * @param {Partial<Limits>} [options.limits]
   */
  constructor({ sessionId, now, isClient = true, limits = {} }) {
    /** @readonly */
    this.limits = checkLimits({ ...DEFAULT_LIMITS, ...limits });
    /** @type {Hello | null} */
    this.hello = null;
    /** Why the connection is over, if it is. @type {ProtocolError | null} */
    this.failure = null;
    this.peerWentAway = false;
    /** How many counted frames of the peer are here: what the hello of a resumed session would say. */
    this.framesReceived = 0;
    /** Milliseconds that the last ping took. @type {number | null} */
    this.roundTrip = null;
    this.queuedBytes = 0;
    /** How many items were ever queued; shows whether somebody is still sending. */
    this.itemsQueued = 0;

    this._decoder = new Decoder();
    /** @type {Map<number, StreamMachine>} */
    this._streams = new Map();
    /** @type {MachineEvent[]} */
    this._events = [];
    this._peerParity = isClient ? 0 : 1;
    this._nextId = isClient ? 1 : 2;
    this._lastPeerId = 0;
    this._opened = 0;
    this._openLimit = 0;
    this._wantsToOpen = false;
    this._accepted = 0;
    this._released = 0;
    this._streamLimit = this.limits.maxStreams;
    this._isGoingAway = false;
    this._maxItemBytesOut = 0;
    this._receiveCredit = new ReceiveCredit(0, this.limits.connectionBytes, true);
    this._sendCredit = new SendCredit(0, 0);
    this._owesGrant = false;
    /** @type {Set<StreamMachine>} */
    this._granted = new Set();
    this._scheduler = new Scheduler();
    /** Could go on but for the connection's credit. @type {Set<StreamMachine>} */
    this._starved = new Set();
    /** Had to refuse items because the send buffer is full. @type {Set<StreamMachine>} */
    this._waitingForRoom = new Set();
    /** @type {Uint8Array[]} */
    this._control = [];
    this._controlBytes = 0;

    this._lastHeard = now;
    this._deadline = now + this.limits.handshakeTimeout;
    this._probedAt = -1;
    this._nextPing = 1;
    /** @type {Map<number, number>} */
    this._pings = new Map();

    this._put(PREFACE);
    this._put(encode.hello(helloOf(this.limits, sessionId)));
  }

  // What the carrier's side asks.

  get hasOutput() {
    return this._control.length > 0 || !this._scheduler.isEmpty || this._granted.size > 0 || this._owesGrant;
  }

  get canOpen() {
    return this._opened < this._openLimit && !this.peerWentAway && this.failure === null;
  }

  /** Bytes that arrived in all streams and were not taken, at their cost. */
  get unreadBytes() {
    return this._receiveCredit.unconsumedBytes;
  }

  get streamCount() {
    return this._streams.size;
  }

  /** Whether another carrier may take the place of this one; that of a session may. */
  get canOutlive() {
    return false;
  }

  /** A live stream's state. @param {number} id */
  get(id) {
    return this._streams.get(id);
  }

  /** Take the events that have happened, in order. */
  takeEvents() {
    const events = this._events;
    if (events.length > 0) this._events = [];
    return events;
  }

  /** When `handleDeadline` wants to be called; infinity for never. */
  get deadline() {
    return this.failure === null ? this._deadline : Infinity;
  }

  /**
   * Ping into a silence, or give up. A silence counts only while a ping of ours is unanswered: timers of a page that was
   * asleep fire before what arrived meanwhile is handed out.
   *
   * @param {number} now
   */
  handleDeadline(now) {
    if (now < this.deadline) return;
    const half = this.limits.idleTimeout / 2;
    if (this.hello === null) {
      const limit = this.limits.handshakeTimeout;
      const message = `the peer sent no hello within handshakeTimeout of ${limit} ms`;
      this._giveUp(new RemoteProtocolError(message, { code: "HANDSHAKE_TIMEOUT", field: "handshakeTimeout", limit }));
    } else if (now < this._lastHeard + half) {
      this._deadline = this._lastHeard + half;
    } else if (this._probedAt > this._lastHeard) {
      const limit = this.limits.idleTimeout;
      const message = `the peer was silent for ${Math.round(now - this._lastHeard)} ms, idleTimeout is ${limit} ms`;
      this._giveUp(new RemoteProtocolError(message, { code: "IDLE_TIMEOUT", field: "idleTimeout", limit }));
    } else {
      this._probedAt = now;
      this._deadline = now + half;
      this.ping(now);
    }
  }

  /** The peer is silent. @param {ProtocolError} error */
  _giveUp(error) {
    this._fail(error);
  }

  /**
   * Whole frames to write now: control, grants, then data by priority.
   *
   * @param {number} maxBytes when to stop adding data; control and the last turn may pass it
   */
  toSend(maxBytes) {
    const chunks = this._control;
    let size = this._controlBytes;
    this._control = [];
    this._controlBytes = 0;
    for (const grant of this._takeGrants()) {
      chunks.push(grant);
      size += grant.length;
    }
    while (!this._scheduler.isEmpty && size < maxBytes) size += this._serveTurn(chunks);
    this._wakeWriters();
    return chunks.length === 0 ? NOTHING : join(chunks, size);
  }

  _takeGrants() {
    const grants = [];
    if (this._owesGrant) {
      this._owesGrant = false;
      this._receiveCredit.grant();
      this._streamLimit = this._released + this.limits.maxStreams;
      grants.push(encode.credit(0, this._streamLimit, this._receiveCredit.byteLimit));
    }
    for (const stream of this._granted) {
      if (stream.receiveState !== "open") continue;
      const credit = stream.receiveCredit;
      credit.grant();
      grants.push(encode.credit(stream.id, credit.itemLimit, credit.byteLimit));
    }
    this._granted.clear();
    return grants;
  }

  /** @param {Uint8Array[]} chunks */
  _serveTurn(chunks) {
    const [stream, budget] = this._scheduler.pick();
    let spent = 0;
    let size = 0;
    while (spent < budget) {
      const before = stream.queuedBytes;
      const isControl = !stream.needsConnectionCredit && stream._cut === null;
      const frame = stream.pull(budget - spent, this._sendCredit.byteLimit - this._sendCredit.bytes);
      if (frame === null) break;
      // An item is charged when it starts; the further pieces of a large one are free.
      this.queuedBytes -= before - stream.queuedBytes;
      this._sendCredit.bytes += before - stream.queuedBytes;
      chunks.push(frame);
      size += frame.length;
      if (!isControl) spent += frame.length;
    }
    const isStarved = stream.needsConnectionCredit && this._sendCredit.bytes >= this._sendCredit.byteLimit;
    this._scheduler.spent(stream, Math.min(spent, budget), stream.hasOutput && !isStarved);
    if (isStarved) this._starved.add(stream);
    this._removeIfOver(stream);
    return size;
  }

  /** All streams have room again at half a buffer, and one whose own queue is empty at once. */
  _wakeWriters() {
    const hasRoom = this.queuedBytes * 2 <= this.limits.maxSendBufferBytes;
    for (const stream of this._waitingForRoom) {
      if (!hasRoom && stream.queuedBytes > 0) continue;
      this._waitingForRoom.delete(stream);
      this._wake(stream);
    }
  }

  /** A stream that refused items takes some again, unless its own credit is used up. @param {StreamMachine} stream */
  _wake(stream) {
    if (!stream.isBlocked || !stream.sendCredit.isOpen || this.failure !== null) return;
    stream.isBlocked = false;
    this._events.push({ type: "writable", id: stream.id });
  }

  /** @param {Uint8Array} bytes */
  _put(bytes) {
    if (this.failure !== null) return;
    this._control.push(bytes);
    this._controlBytes += bytes.length;
  }

  // Commands.

  /**
   * Open a stream.
   *
   * @param {string} name what is asked for
   * @param {{metadata?: Record<string, string>, priority?: number, timeoutMs?: number | null, windowItems?: number,
   *   windowBytes?: number}} [options]
   * @returns {StreamMachine}
   */
  open(name, options = {}) {
    const hello = this.hello;
    if (hello === null || this.failure !== null || this.peerWentAway) {
      throw new LocalProtocolError("can't open a stream: the peer takes none now", { code: "UNAVAILABLE" });
    }
    if (this._opened >= this._openLimit) {
      this._wantsToOpen = true;
      const message = `can't open stream number ${this._opened + 1}: the peer allows ${this._openLimit}`;
      const limits = { field: "maxStreams", size: this._opened + 1, limit: this._openLimit };
      throw new LocalProtocolError(message, { code: "STREAM_LIMIT_ERROR", ...limits });
    }
    const { priority = 0, windowItems = this.limits.windowItems, windowBytes = this.limits.windowBytes } = options;
    if (!Number.isInteger(priority) || priority < -128 || priority > 127) {
      throw new LocalProtocolError(`priority is ${priority}, not an integer of -128 to 127`, { field: "priority" });
    }
    const id = this._nextId;
    this._put(encode.open(id, name, { ...options, windowItems, windowBytes }));
    this._nextId += 2;
    this._opened += 1;
    const receiveCredit = new ReceiveCredit(windowItems, windowBytes);
    const stream = new StreamMachine(id, new SendCredit(hello.window_items, hello.window_bytes), receiveCredit, priority);
    this._streams.set(id, stream);
    return stream;
  }

  /** Ask for the event `streams-allowed`. */
  noteWishToOpen() {
    this._wantsToOpen = true;
  }

  /** @param {number} id @param {string} action */
  _require(id, action) {
    const stream = this._streams.get(id);
    if (stream === undefined) throw new LocalProtocolError(`can't ${action} on stream ${id}: it is over`);
    return stream;
  }

  /**
   * Queue items while credit and the send buffer allow. After fewer than all, `writable` tells when to go on.
   *
   * @param {number} id @param {readonly Uint8Array[]} payloads
   * @returns {number} how many were taken
   */
  send(id, payloads) {
    const stream = this._require(id, "send");
    const limit = this._maxItemBytesOut;
    for (const { length } of payloads) {
      if (length <= limit) continue;
      const message = `an item of ${length} bytes passes maxItemBytes of ${limit}`;
      throw new LocalProtocolError(message, { code: "MESSAGE_TOO_LARGE", field: "maxItemBytes", size: length, limit });
    }
    const before = stream.queuedBytes;
    const taken = stream.send(payloads, this.limits.maxSendBufferBytes - this.queuedBytes);
    this.queuedBytes += stream.queuedBytes - before;
    this.itemsQueued += taken;
    if (stream.isBlocked && stream.sendCredit.isOpen) this._waitingForRoom.add(stream);
    if (taken > 0) this._schedule(stream);
    return taken;
  }

  /** A starved stream stays parked: what it has stands behind an item. @param {StreamMachine} stream */
  _schedule(stream) {
    if (!this._starved.has(stream) && this.failure === null) this._scheduler.push(stream);
  }

  /** The head of our half, before its first item. @param {number} id @param {Record<string, string>} metadata */
  sendHeader(id, metadata) {
    const stream = this._require(id, "send a header");
    stream.head(encode.header(id, metadata));
    this._schedule(stream);
  }

  /**
   * End our half, behind its items.
   *
   * @param {number} id @param {{code?: string, message?: string, details?: unknown}} [status]
   * @param {Record<string, string>} [trailers]
   */
  end(id, status, trailers) {
    const stream = this._require(id, "end");
    stream.end(encode.end(id, status, trailers));
    this._schedule(stream);
  }

  /** Abandon our half and what is queued of it; too late is no fault. @param {number} id @param {string} [code] @param {string} [reason] */
  reset(id, code = "CANCELLED", reason = "") {
    const stream = this._streams.get(id);
    if (stream !== undefined && this._abandon(stream, code, reason)) this._removeIfOver(stream);
  }

  /** @param {StreamMachine} stream @param {string} code @param {string} reason */
  _abandon(stream, code, reason) {
    this.queuedBytes -= stream.queuedBytes;
    if (!stream.abandon()) return false;
    this._scheduler.discard(stream);
    this._starved.delete(stream);
    this._waitingForRoom.delete(stream);
    this._put(encode.reset(stream.id, code, reason));
    return true;
  }

  /** Refuse more of the peer's half; too late is no fault. @param {number} id @param {string} [code] @param {string} [reason] */
  stop(id, code = "OK", reason = "") {
    const stream = this._streams.get(id);
    if (stream === undefined) return;
    if (stream.refuse() === "open") this._put(encode.stop(id, code, reason));
    this._consumeBytes(stream.settle());
    this._removeIfOver(stream);
  }

  /** The application took items. @param {number} id @param {number} items @param {number} size what they cost */
  consume(id, items, size) {
    const stream = this._streams.get(id);
    if (stream === undefined || stream.receiveState === "errored") return; // settled when the half ended
    if (stream.consume(items, size) && this.failure === null) this._granted.add(stream);
    this._consumeBytes(size);
    if (stream.receiveState === "closed") this._removeIfOver(stream);
  }

  /** @param {number} size */
  _consumeBytes(size) {
    this._receiveCredit.consumedBytes += size;
    if (this._receiveCredit.isDue && this.failure === null) this._owesGrant = true;
  }

  /** The application is done with a stream: what is left of it is reset, stopped and counted as taken. @param {number} id */
  release(id) {
    const stream = this._streams.get(id);
    if (stream === undefined || stream.isReleased) return;
    stream.isReleased = true;
    if (stream.sendState === "open") this.reset(id);
    this.stop(id);
  }

  /** Ask for a sign of life. @param {number} now */
  ping(now) {
    const number = this._nextPing;
    this._nextPing += 1;
    this._pings.set(number, now);
    if (this._pings.size > 64) this._pings.delete(/** @type {number} */ (this._pings.keys().next().value));
    this._put(encode.ping(number));
  }

  /** Tell the peer to open no more streams; the first reason counts. @param {string} [code] @param {string} [reason] */
  goAway(code = "OK", reason = "") {
    if (this._isGoingAway) return;
    this._isGoingAway = true;
    this._put(encode.goAway(code, reason, this._lastPeerId));
  }

  /** @param {ProtocolError} error */
  _fail(error) {
    if (this.failure !== null) return;
    this._isGoingAway = false;
    this.goAway(error.code, error.message);
    this.failure = error;
    this._owesGrant = false;
    this._granted.clear();
    this._scheduler = new Scheduler();
    this._starved.clear();
    this._waitingForRoom.clear();
    this._events.push({ type: "failed", id: 0, error });
  }

  /** @param {StreamMachine} stream */
  _removeIfOver(stream) {
    const isAccepted = stream.id % 2 === this._peerParity;
    if (!stream.isFinished || (isAccepted && !stream.isReleased) || !this._streams.delete(stream.id)) return;
    this._granted.delete(stream);
    if (!isAccepted) return;
    this._released += 1;
    this._lookForGrants();
  }

  _lookForGrants() {
    const most = this.limits.maxStreams;
    const finished = this._released + most - this._streamLimit;
    const areFewLeft = finished > 0 && (this._streamLimit - this._accepted) * 4 < most;
    const isDue = areFewLeft || (finished > 0 && finished * 4 >= most);
    if ((isDue || this._receiveCredit.isDue) && this.failure === null) this._owesGrant = true;
  }

  // Frames.

  /** Take bytes from the carrier. @param {Uint8Array} chunk @param {number} now */
  receive(chunk, now) {
    if (this.failure !== null) return;
    this._lastHeard = now;
    try {
      for (const frame of this._decoder.decode(chunk)) this._takeFrame(frame, now);
      if (this._controlBytes > this.limits.maxControlBytes) this._refuseToOwe();
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this._fail(error);
      return;
    }
    // What arrived may have used up what was left, while all that was taken before was too little to grant.
    this._lookForGrants();
  }

  /** A WebSocket can't be read more slowly, so a peer that makes us owe it ever more has to go. */
  _refuseToOwe() {
    const { _controlBytes: size, limits } = this;
    const message = `the peer leaves ${size} bytes of answers unread, maxControlBytes is ${limits.maxControlBytes}`;
    const fault = { code: "RESOURCE_EXHAUSTED", field: "maxControlBytes", size, limit: limits.maxControlBytes };
    throw new RemoteProtocolError(message, fault);
  }

  /** @param {Frame} frame @param {number} now */
  _takeFrame(frame, now) {
    if (frame.error !== undefined) throw frame.error;
    if (this.hello === null && frame.kind !== HELLO) {
      throw new RemoteProtocolError("the peer's first frame is not HELLO", { field: "HELLO" });
    }
    if (!UNCOUNTED_KINDS.has(frame.kind)) this.framesReceived += 1;
    const { id } = frame;
    switch (frame.kind) {
      case DATA:
        return this._onData(frame);
      case HELLO:
        return this._onHello(frame.record, now);
      case OPEN:
        return this._onOpen(id, frame.record);
      case CREDIT:
        return this._onCredit(frame);
      case PING:
        return this._put(encode.pong(/** @type {Uint8Array} */ (frame.data)));
      case PONG:
        return this._onPong(/** @type {number} */ (frame.count), now);
      case ACK:
        return this._onAck(/** @type {number} */ (frame.count));
      case GOAWAY:
        return this._onGoAway(frame);
      default:
        return this._onStreamFrame(frame);
    }
  }

  /** The stream of a frame; undefined for one that is gone. One that never was is the peer's fault. @param {number} id @param {number} kind */
  _find(id, kind) {
    const stream = this._streams.get(id);
    const last = id % 2 === this._peerParity ? this._lastPeerId : this._nextId - 2;
    if (stream === undefined && !(id > 0 && id <= last)) {
      throw malformed("stream_id", id, `the peer sent ${NAMES[kind]} on stream ${id}, which was never opened`);
    }
    return stream;
  }

  /** @param {Frame} frame */
  _onData({ id, run, data, total }) {
    const stream = this._find(id, DATA);
    if (run !== undefined) {
      for (let index = 0; index < run.count; index += 1) this._checkItem(run.costOf(index) - ITEM_OVERHEAD_BYTES);
      const size = run.cost;
      this._receiveCredit.receive(0, size, run.costOf(run.count - 1));
      if (stream?.receiveRun(run)) this._events.push({ type: "received", id, run });
      else this._consumeBytes(size);
      return;
    }
    const piece = /** @type {Uint8Array} */ (data);
    if (total === undefined) {
      const item = stream?.receivePiece(piece);
      if (item) this._events.push({ type: "received", id, run: item });
      return;
    }
    this._checkItem(total);
    const charge = total + ITEM_OVERHEAD_BYTES;
    this._receiveCredit.receive(0, charge, charge);
    if (!stream?.receiveFirst(piece, total)) this._consumeBytes(charge);
  }

  /** @param {number} size */
  _checkItem(size) {
    const limit = this.limits.maxItemBytes;
    if (size <= limit) return;
    const message = `the peer sent an item of ${size} bytes, maxItemBytes is ${limit}`;
    throw new RemoteProtocolError(message, { code: "MESSAGE_TOO_LARGE", field: "maxItemBytes", size, limit });
  }

  /** @param {Hello} hello @param {number} now */
  _onHello(hello, now) {
    if (this.hello !== null) throw new RemoteProtocolError("the peer sent a second HELLO", { field: "HELLO" });
    this.hello = hello;
    this._openLimit = hello.max_streams;
    this._maxItemBytesOut = Math.min(hello.max_item_bytes, this.limits.maxItemBytes);
    this._raiseConnectionCredit(hello.connection_bytes);
    this._watchSilence(now);
    this._events.push({ type: "greeted", id: 0, record: hello });
    this._allowStreams();
  }

  /** @param {number} now */
  _watchSilence(now) {
    this._deadline = this.limits.idleTimeout > 0 ? now + this.limits.idleTimeout / 2 : Infinity;
  }

  /** Nothing is retained here; a session does. @param {number} _frames */
  _onAck(_frames) {}

  /** @param {number} bytes */
  _raiseConnectionCredit(bytes) {
    if (!this._sendCredit.raise(0, bytes)) return;
    for (const stream of this._starved) this._scheduler.push(stream);
    this._starved.clear();
  }

  _allowStreams() {
    if (!this._wantsToOpen || !this.canOpen) return;
    this._wantsToOpen = false;
    this._events.push({ type: "streams-allowed", id: 0 });
  }

  /** @param {number} id @param {any} record */
  _onOpen(id, record) {
    if (id % 2 !== this._peerParity || id <= this._lastPeerId) {
      throw malformed("stream_id", id, `the peer opened stream ${id}: not a new one of its own`);
    }
    if (this._accepted >= this._streamLimit) {
      const message = `the peer opened stream number ${this._accepted + 1}, maxStreams allows ${this._streamLimit}`;
      const limits = { field: "maxStreams", size: this._accepted + 1, limit: this._streamLimit };
      throw new RemoteProtocolError(message, { code: "STREAM_LIMIT_ERROR", ...limits });
    }
    this._lastPeerId = id;
    this._accepted += 1;
    if (this._isGoingAway) {
      this._released += 1; // the OPEN crossed our GOAWAY
      this._put(encode.reset(id, "UNAVAILABLE", "going away"));
      this._put(encode.stop(id, "UNAVAILABLE", "going away"));
      return;
    }
    const { windowItems, windowBytes } = this.limits;
    const sendCredit = new SendCredit(record.window_items, record.window_bytes);
    const stream = new StreamMachine(id, sendCredit, new ReceiveCredit(windowItems, windowBytes), record.priority);
    this._streams.set(id, stream);
    this._events.push({ type: "opened", id, record });
  }

  /** @param {Frame} frame */
  _onCredit({ id, count = 0, bytes = 0 }) {
    if (id === 0) {
      this._raiseConnectionCredit(bytes);
      if (count <= this._openLimit) return;
      this._openLimit = count;
      this._allowStreams();
      return;
    }
    const stream = this._find(id, CREDIT);
    if (stream?.sendCredit.raise(count, bytes)) this._wake(stream);
  }

  /** @param {number} number @param {number} now */
  _onPong(number, now) {
    const started = this._pings.get(number);
    if (started === undefined) return;
    this._pings.delete(number);
    this.roundTrip = now - started;
  }

  /** @param {Frame} frame */
  _onGoAway({ code = "", reason = "" }) {
    const isNews = !this.peerWentAway;
    this.peerWentAway = true;
    if (code !== "OK") {
      throw new RemoteProtocolError(`the peer gave the connection up: ${code}: ${reason}`, { code });
    }
    if (isNews) this._events.push({ type: "went-away", id: 0, code, reason });
  }

  /** @param {Frame} frame */
  _onStreamFrame({ kind, id, record, code = "", reason = "" }) {
    const stream = this._find(id, kind);
    if (stream === undefined) return;
    if (kind === HEADER) {
      if (stream.receiveHeader()) this._events.push({ type: "headed", id, record });
    } else if (kind === END) {
      if (stream.receiveEnd()) this._events.push({ type: "ended", id, record });
    } else if (kind === RESET) {
      if (stream.refuse() !== null) {
        this._consumeBytes(stream.settle());
        this._events.push({ type: "reset", id, code, reason });
      }
    } else if (this._abandon(stream, code, reason)) {
      // Who is asked to stop answers with a RESET, so that the other side knows the end (RFC 9000 §3.5).
      this._events.push({ type: "stopped", id, code, reason });
    }
    this._removeIfOver(stream);
  }
}

/** A wrong limit fails where it was given. @param {Limits} limits */
function checkLimits(limits) {
  for (const [name, value] of Object.entries(limits)) {
    if (!Object.hasOwn(DEFAULT_LIMITS, name)) throw new LocalProtocolError(`there is no limit ${name}`, { field: name });
    const least = ["maxStreams", "idleTimeout"].includes(name) ? 0 : 1;
    // A frame announces an item's size in 32 bits.
    const most = name === "maxItemBytes" ? U32 - 1 : Number.MAX_SAFE_INTEGER;
    if (Number.isInteger(value) && value >= least && value <= most) continue;
    throw new LocalProtocolError(`${name} is ${value}, not an integer of ${least} to ${most}`, { field: name });
  }
  return limits;
}

/** @param {Limits} limits @param {string} sessionId */
function helloOf(limits, sessionId) {
  return {
    session_id: sessionId,
    window_items: limits.windowItems,
    window_bytes: limits.windowBytes,
    connection_bytes: limits.connectionBytes,
    max_streams: limits.maxStreams,
    max_item_bytes: limits.maxItemBytes,
    idle_timeout_ms: limits.idleTimeout,
    agent: "trio_streams.js",
  };
}

// -- sessions: a connection that outlives its carrier --------------------------------------------------------------------

/** The feature that both HELLOs offer. */
const RESUME = "resume";
const ACKNOWLEDGE_BYTES = 32_768;
const ACKNOWLEDGE_FRAMES = 256;
/** Writes up to this length are looked at when they are kept: those without a counted frame would wait for ever. */
const LOOKED_AT_BYTES = 64;

/**
 * Limits of a session.
 *
 * @typedef {object} ResumeOptions
 * @property {number} [maxRetainedBytes] of what was written and not acknowledged, a write at its length and 64; while so much
 *   is retained, senders wait
 * @property {number} [maxSessionAge] milliseconds after the loss of a carrier in which another one has to take its place
 */

/** @type {Readonly<Required<ResumeOptions>>} */
const DEFAULT_RESUME = Object.freeze({ maxRetainedBytes: 1_048_576, maxSessionAge: 60_000 });

/** Where in some whole frames those begin and end that belong to the session. @param {Uint8Array} data @returns {[number, number][]} */
function findCounted(data) {
  const view = viewOf(data);
  /** @type {[number, number][]} */
  const spans = [];
  for (let at = 0; at < data.length; ) {
    const end = at + HEADER_BYTES + view.getUint16(at + 2);
    if (!UNCOUNTED_KINDS.has(data[at])) spans.push([at, end]);
    at = end;
  }
  return spans;
}

/** Some parts of a write; the write itself where that is all of it. @param {Uint8Array} data @param {[number, number][]} spans */
function cutWrite(data, spans) {
  const size = spans.reduce((sum, [start, end]) => sum + end - start, 0);
  if (size === data.length) return data;
  return join(spans.map(([start, end]) => data.slice(start, end)), size);
}

/**
 * What was written and not acknowledged: kept as it was written, to be written again on another carrier. Writes are taken
 * apart only for a replay and where the limit is reached.
 */
class Retention {
  /** @param {number} maxBytes when `isFull` says so */
  constructor(maxBytes) {
    this.retainedBytes = 0;
    this._maxBytes = maxBytes;
    /** @type {Queue<Uint8Array>} */
    this._writes = new Queue();
    /** Counted frames before the first write. */
    this._start = 0;
    /** Counted frames in the first write, once they were counted. @type {number | null} */
    this._firstFrames = null;
    this._acknowledged = 0;
  }

  /** Whether no more data should be written until the peer has acknowledged some. */
  get isFull() {
    return this.retainedBytes >= this._maxBytes;
  }

  /** Keep whole frames. @param {Uint8Array} data */
  keep(data) {
    const wasFull = this.isFull;
    if ((wasFull || data.length <= LOOKED_AT_BYTES) && findCounted(data).length === 0) return;
    this._writes.push(data);
    this.retainedBytes += data.length + ITEM_OVERHEAD_BYTES;
    if (wasFull || !this.isFull) return;
    this._hold(this._writes.drain().filter((write) => findCounted(write).length > 0));
    this._cutFirst();
  }

  /** Drop the writes that are covered as a whole. @param {number} frames that the peer has received since the session began */
  acknowledge(frames) {
    while (this._writes.length > 0 && this._start + this._countFirst() <= frames) {
      this._start += this._countFirst();
      this.retainedBytes -= this._writes.shift().length + ITEM_OVERHEAD_BYTES;
      this._firstFrames = null;
    }
    if (this._writes.length === 0 && frames > this._start) {
      const message = `the peer acknowledges ${frames} frames, ${this._start} were sent`;
      throw malformed("frames", frames, message, this._start);
    }
    this._acknowledged = Math.max(frames, this._acknowledged);
    if (this.isFull) this._cutFirst();
  }

  /** What the peer lacks, to be written again. It stays kept, too. @param {number} received frames that the peer has */
  replay(received) {
    if (received < this._acknowledged) {
      const message = `the peer has received ${received} frames, and acknowledged ${this._acknowledged} before`;
      throw malformed("frames_received", received, message, this._acknowledged);
    }
    this.acknowledge(received);
    this._cutFirst();
    const writes = this._writes.drain().map((write) => cutWrite(write, findCounted(write)));
    this._hold(writes.filter(({ length }) => length > 0));
    return this._all();
  }

  _all() {
    const writes = this._writes.drain();
    for (const write of writes) this._writes.push(write);
    return writes;
  }

  _countFirst() {
    this._firstFrames ??= findCounted(this._writes.peek()).length;
    return this._firstFrames;
  }

  /** Drop the part of the first write that is acknowledged, which costs a copy of the rest. */
  _cutFirst() {
    if (this._writes.length === 0 || this._acknowledged <= this._start) return;
    const [first, ...rest] = this._writes.drain();
    const spans = findCounted(first).slice(this._acknowledged - this._start);
    this._hold([cutWrite(first, spans), ...rest]);
    this._start = this._acknowledged;
  }

  /** @param {Uint8Array[]} writes */
  _hold(writes) {
    this.retainedBytes = 0;
    this._firstFrames = null;
    for (const write of writes) {
      this._writes.push(write);
      this.retainedBytes += write.length + ITEM_OVERHEAD_BYTES;
    }
  }
}

/**
 * A machine that can be taken off one carrier and put on another. It keeps what it has written until the peer acknowledges
 * it, greets on each carrier with the session's id and what is here, and writes again what the peer lacks. A silence is the
 * carrier's fault here (`carrier-failed`), not the session's.
 */
class Session extends Machine {
  /**
   * @param {object} options
   * @param {string} options.sessionId names the session to the peer; whoever knows it can take the session over
   * @param {number} options.now milliseconds, on the clock of all later calls
   * @param {number} options.maxRetainedBytes of what is written and not acknowledged
   * @param {boolean} [options.isClient]
   * @param {Partial<Limits>} [options.limits]
   */
  constructor(options) {
    super(options);
    /** @type {Uint8Array[]} */
    this._control = []; // a greeting that is none of a session
    this._controlBytes = 0;
    this.isAttached = true;
    /** How often the session went on with another carrier. */
    this.resumes = 0;
    this._sessionId = options.sessionId;
    /** The peer's first hello; `hello` is that of the carrier. @type {Hello | null} */
    this._sessionHello = null;
    /** @type {Retention | null} */
    this._retention = new Retention(options.maxRetainedBytes);
    /** @type {Queue<Uint8Array>} */
    this._replay = new Queue();
    this._acknowledged = 0;
    this._unacknowledgedBytes = 0;
    this._owesAck = false;
    /** Control that was written while the retention was full. */
    this._extraBytes = 0;
    /** @type {Uint8Array | null} */
    this._greeting = null;
    this._greet();
  }

  // Carriers.

  /** Both sides offer it, and neither has ended the session. */
  get canOutlive() {
    return this._sessionHello !== null && this._retention !== null && this.failure === null && !this.peerWentAway;
  }

  get retainedBytes() {
    return this._retention?.retainedBytes ?? 0;
  }

  /** The carrier is gone, and with it half a frame, pings and their answers. Only where the session can outlive it. */
  detach() {
    this.isAttached = false;
    this.hello = null;
    this._greeting = null;
    this._replay.drain();
    this._decoder = new Decoder();
    this._control = this._control.filter(([kind]) => !UNCOUNTED_KINDS.has(kind));
    this._controlBytes = this._control.reduce((sum, { length }) => sum + length, 0);
    this._pings.clear();
    this._probedAt = -1;
    this._deadline = Infinity;
  }

  /** There is another carrier: greet on it. @param {number} now */
  attach(now) {
    this.isAttached = true;
    this._greet();
    this._lastHeard = now;
    this._deadline = now + this.limits.handshakeTimeout;
  }

  _greet() {
    const hello = { ...helloOf(this.limits, this._sessionId), frames_received: this.framesReceived, features: [RESUME] };
    const frame = encode.hello(hello);
    this._greeting = join([PREFACE, frame], PREFACE.length + frame.length);
    this._noteAcknowledged();
  }

  _noteAcknowledged() {
    this._acknowledged = this.framesReceived;
    this._unacknowledgedBytes = 0;
    this._owesAck = false;
  }

  /** @param {ProtocolError} error */
  _giveUp(error) {
    if (!this.canOutlive) return this._fail(error);
    this._deadline = Infinity;
    this._events.push({ type: "carrier-failed", id: 0, error });
  }

  // What the peer says.

  /** @param {Hello} hello @param {number} now */
  _onHello(hello, now) {
    const first = this._sessionHello;
    if (first === null || this.hello !== null) {
      super._onHello(hello, now);
      this._sessionHello = hello;
      if (hello.frames_received > 0) {
        const message = "the peer wants to resume a session that is not here";
        const fault = { code: "UNAVAILABLE", field: "frames_received", size: hello.frames_received, limit: 0 };
        throw new RemoteProtocolError(message, fault);
      }
      if (!hello.features.includes(RESUME)) this._retention = null;
      return;
    }
    if (hello.session_id !== first.session_id) {
      this._control = []; // meant for streams of the session that is gone
      this._controlBytes = 0;
      const message = "the session could not be resumed: the peer does not have it any more";
      throw new RemoteProtocolError(message, { code: "UNAVAILABLE", field: "session_id" });
    }
    this.hello = hello;
    for (const write of /** @type {Retention} */ (this._retention).replay(hello.frames_received)) this._replay.push(write);
    this._watchSilence(now);
    this.resumes += 1;
    this._events.push({ type: "resumed", id: 0 });
    this._allowStreams();
  }

  /** @param {number} frames */
  _onAck(frames) {
    this._retention?.acknowledge(frames);
  }

  /** @param {Uint8Array} chunk @param {number} now */
  receive(chunk, now) {
    super.receive(chunk, now);
    this._unacknowledgedBytes += chunk.length;
    const owed = this.framesReceived - this._acknowledged;
    if (owed >= ACKNOWLEDGE_FRAMES || (owed > 0 && this._unacknowledgedBytes >= ACKNOWLEDGE_BYTES)) {
      this._owesAck = this._retention !== null && this.failure === null;
    }
  }

  /** What waited for a carrier is not yet the peer's to read. */
  _refuseToOwe() {
    if (this._isSteady) super._refuseToOwe();
  }

  // What the carrier's side asks.

  /** Whether nothing stands between the streams and the carrier. */
  get _isSteady() {
    const isGreeted = this.hello !== null || this._sessionHello === null;
    return this.isAttached && isGreeted && this._greeting === null && this._replay.length === 0;
  }

  get canOpen() {
    return this.hello !== null && super.canOpen;
  }

  get hasOutput() {
    if (this._isSteady) {
      if (this._owesAck) return true;
      return this._retention?.isFull ? this._controlBytes > 0 || this._granted.size > 0 || this._owesGrant : super.hasOutput;
    }
    if (!this.isAttached) return false;
    return this._greeting !== null || (this.failure === null ? this._replay.length > 0 : super.hasOutput);
  }

  /** What greets, then what the peer lacks, then as any machine. @param {number} maxBytes */
  toSend(maxBytes) {
    if (!this._isSteady) return this._takeOpening(maxBytes);
    const retention = this._retention;
    if (retention === null || this.failure !== null) {
      this._owesAck = false;
      return super.toSend(maxBytes);
    }
    if (this.framesReceived > this._acknowledged) {
      this._noteAcknowledged();
      this._put(encode.ack(this._acknowledged));
    }
    const wasFull = retention.isFull;
    const data = super.toSend(wasFull ? 0 : maxBytes);
    this._extraBytes = wasFull ? this._extraBytes + data.length : 0;
    retention.keep(data);
    if (this._extraBytes > this.limits.maxControlBytes) this._fail(this._unacknowledged());
    return data;
  }

  /** @param {number} maxBytes */
  _takeOpening(maxBytes) {
    if (!this.hasOutput) return NOTHING;
    if (this._greeting !== null) {
      const greeting = this._greeting;
      this._greeting = null;
      return greeting;
    }
    if (this.failure !== null) return super.toSend(maxBytes);
    const writes = [this._replay.shift()];
    let size = writes[0].length;
    while (this._replay.length > 0 && size + this._replay.peek().length <= maxBytes) {
      const write = this._replay.shift();
      writes.push(write);
      size += write.length;
    }
    return join(writes, size);
  }

  _unacknowledged() {
    const { maxControlBytes: limit } = this.limits;
    const message = `the peer acknowledges nothing: ${this.retainedBytes} bytes are retained, and ${this._extraBytes} of them are more than maxRetainedBytes; maxControlBytes is ${limit}`;
    const fault = { code: "RESOURCE_EXHAUSTED", field: "maxControlBytes", size: this._extraBytes, limit };
    return new RemoteProtocolError(message, fault);
  }
}

/** The machine and its wire, for tests and for other carriers. Not a part of the interface: it may change at any time. @type {any} */
export const internals = Object.freeze({ Machine, Session, Retention, Decoder, Run, encode, findCounted });

// -- streams as users hold them ------------------------------------------------------------------------------------------

const DONE = Promise.resolve();
const LONGEST_TIMER = 2 ** 31 - 1;
const noop = () => {};

/** First in, first out, without moving what waits. @template T */
class Queue {
  constructor() {
    /** @type {T[]} */
    this._items = [];
    this._start = 0;
  }

  get length() {
    return this._items.length - this._start;
  }

  /** @param {T} item */
  push(item) {
    this._items.push(item);
  }

  /** The next one; there has to be one. */
  peek() {
    return this._items[this._start];
  }

  shift() {
    const item = this._items[this._start];
    this._items[this._start] = /** @type {any} */ (undefined);
    this._start += 1;
    if (this._start * 2 > this._items.length && (this._start > 32 || this._start === this._items.length)) {
      this._items = this._items.slice(this._start);
      this._start = 0;
    }
    return item;
  }

  /** Take all. */
  drain() {
    const items = this._items.slice(this._start);
    this._items = [];
    this._start = 0;
    return items;
  }
}

/** Call once after a time, however long it is. @param {() => void} callback @param {number} delay @returns {() => void} takes it back */
function after(delay, callback) {
  const end = performance.now() + delay;
  /** @type {ReturnType<typeof setTimeout>} */
  let timer;
  const arm = () => {
    const left = end - performance.now();
    timer = setTimeout(left > LONGEST_TIMER ? arm : callback, Math.min(Math.max(0, left), LONGEST_TIMER));
  };
  arm();
  return () => clearTimeout(timer);
}

/** An item as bytes. @param {unknown} value @param {boolean} isRaw @returns {Uint8Array} */
function encodeItem(value, isRaw) {
  const isBinary = value instanceof ArrayBuffer || ArrayBuffer.isView(value);
  if (isBinary && isRaw) {
    // A copy: what waits to be sent must not change under the hands of its owner.
    if (value instanceof ArrayBuffer) return new Uint8Array(value.slice(0));
    return new Uint8Array(value.buffer, value.byteOffset, value.byteLength).slice();
  }
  if (isBinary) throw new CodecError("bytes have no form in JSON: pass `raw: true`, or encode them");
  let text;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    throw new CodecError(`can't be encoded as JSON: ${/** @type {Error} */ (error).message}`, error);
  }
  if (text === undefined) throw new CodecError(`a value of type ${typeof value} has no form in JSON`);
  // NaN and the infinities become null: only where there is a null can there have been one.
  if (text.includes("null")) checkFinite(value);
  return encoder.encode(text);
}

/** @param {unknown} value */
function checkFinite(value) {
  JSON.stringify(value, (key, inner) => {
    if (typeof inner !== "number" || Number.isFinite(inner)) return inner;
    throw new CodecError(`numbers must be finite, got ${inner}${key && ` at ${JSON.stringify(key)}`}`);
  });
}

/**
 * @typedef {object} StreamOptions
 * @property {AbortSignal} [signal] cancels; what waits rejects with the signal's reason
 * @property {Record<string, string>} [metadata] for the handler
 * @property {number} [timeout] milliseconds; the deadline travels to the handler
 * @property {number} [priority] higher goes first, -128 to 127
 * @property {number} [windowItems] items that the peer may send ahead of what was taken
 * @property {number} [windowBytes] bytes that the peer may send ahead of what was taken
 * @property {boolean} [raw] items come as `Uint8Array`, and bytes are sent as they are, instead of JSON
 */

/**
 * A snapshot of one stream.
 *
 * @typedef {object} StreamStatistics
 * @property {number} id its number on the connection; 0 while it waits to be opened
 * @property {string} name
 * @property {HalfState} sendState
 * @property {HalfState} receiveState
 * @property {number} windowItems what the peer may send ahead of what was taken here
 * @property {number} windowBytes
 * @property {number} creditItems what we may send before the peer grants more
 * @property {number} creditBytes
 * @property {number} bufferedItems what arrived and was not taken
 * @property {number} bufferedBytes the same, an item at its length and 64
 * @property {number} queuedItems what waits to be written
 * @property {number} queuedBytes
 * @property {number} waitingSends calls of `send` that wait for credit
 * @property {number} waitingReceives calls of `next` that wait for an item
 * @property {number} itemsSent
 * @property {number} itemsReceived
 * @property {number} bytesSent
 * @property {number} bytesReceived
 */

/** @typedef {{code: string, message?: string, details?: unknown}} Status */
/** @typedef {{payload: Uint8Array | null, status?: Status, resolve: () => void, reject: (error: unknown) => void}} Sending */
/** @typedef {{take: () => any, resolve: (result: any) => void, reject: (error: unknown) => void}} Waiting */

/** What all kinds of streams share: one stream of a connection, opened as soon as the peer allows it. */
class StreamCore {
  /** @param {Connection} connection @param {string} name @param {StreamOptions} options */
  constructor(connection, name, options) {
    this.name = name;
    this.options = options;
    this.isRaw = options.raw === true;
    /** @type {StreamMachine | null} */
    this.stream = null;
    /** @type {Record<string, string>} */
    this.trailers = {};
    this._connection = connection;
    this._deadline = options.timeout === undefined ? Infinity : performance.now() + options.timeout;
    /** @type {Queue<Run>} */
    this._runs = new Queue();
    this._index = 0;
    this._bufferedItems = 0;
    this._takenItems = 0;
    this._takenBytes = 0;
    this._itemsReceived = 0;
    this._itemsSent = 0;
    /** @type {Queue<Waiting>} */
    this._waiting = new Queue();
    /** @type {Queue<Sending>} */
    this._sending = new Queue();
    /** How receiving ended, once that is known; without an error it ended as it should. @type {{error: unknown} | null} */
    this._over = null;
    /** Why nothing can be sent any more. @type {unknown} */
    this._sendOver = null;
    /** @type {Record<string, string> | null} */
    this._header = null;
    this._takeItem = () => this._item();
    this._takeItems = () => this._items();
    this._cancelTimer = noop;
    this._onAbort = () => this.fail(/** @type {AbortSignal} */ (options.signal).reason);
    this.isAccepted = false;
    /** What the opener says of the stream. @type {Record<string, string>} */
    this.metadata = options.metadata ?? {};
    this.isForgotten = false;
    /** Told when items or the end have arrived, for who does not receive them. */
    this.onArrival = noop;
    /** Told when one of the halves was cut short, and why. @type {(how: "reset" | "stopped" | "lost" | "failed", error: unknown) => void} */
    this.onCut = noop;
    /** Told once, when nothing more can happen. */
    this.onOver = noop;
  }

  get bufferedBytes() {
    return this.stream?.receiveCredit.unconsumedBytes ?? 0;
  }

  get statistics() {
    const { stream } = this;
    const { _connection: connection, options } = this;
    const received = stream?.receiveCredit;
    const sent = stream?.sendCredit;
    return {
      id: stream?.id ?? 0,
      name: this.name,
      sendState: stream?.sendState ?? "open",
      receiveState: stream?.receiveState ?? "open",
      windowItems: received?.windowItems ?? options.windowItems ?? connection.machine.limits.windowItems,
      windowBytes: received?.windowBytes ?? options.windowBytes ?? connection.machine.limits.windowBytes,
      creditItems: sent ? sent.itemLimit - sent.items : 0,
      creditBytes: sent ? Math.max(0, sent.byteLimit - sent.bytes) : 0,
      bufferedItems: this._bufferedItems,
      bufferedBytes: received?.unconsumedBytes ?? 0,
      queuedItems: stream?.queuedItems ?? 0,
      queuedBytes: stream?.queuedBytes ?? 0,
      waitingSends: this._sending.length,
      waitingReceives: this._waiting.length,
      itemsSent: this._itemsSent,
      itemsReceived: this._itemsReceived + this._takenItems,
      bytesSent: sent ? sent.bytes - ITEM_OVERHEAD_BYTES * sent.items : 0,
      bytesReceived: received ? received.bytes - ITEM_OVERHEAD_BYTES * received.items : 0,
    };
  }

  // Opening.

  /** Wait for the signal and the deadline, and for the turn to be opened. */
  begin() {
    const { signal } = this.options;
    if (signal?.aborted) return this.fail(signal.reason);
    signal?.addEventListener("abort", this._onAbort);
    if (this._deadline !== Infinity) {
      const message = `the deadline of ${this.options.timeout} ms passed`;
      const expire = () => this.fail(new RpcError("DEADLINE_EXCEEDED", message));
      this._cancelTimer = after(this._deadline - performance.now(), expire);
    }
    return this._connection.open(this);
  }

  /** The peer has opened this one. @param {StreamMachine} stream */
  accept(stream) {
    this.stream = stream;
    this.isAccepted = true;
  }

  /** The peer allows one more stream, and it is this one. */
  open() {
    const { metadata, priority, windowItems, windowBytes } = this.options;
    const left = Math.max(0, Math.ceil(this._deadline - performance.now()));
    const timeoutMs = this._deadline === Infinity ? null : Math.min(left, Number.MAX_SAFE_INTEGER);
    try {
      const windows = {
        ...(windowItems !== undefined && { windowItems: Math.max(1, Math.trunc(windowItems)) }),
        ...(windowBytes !== undefined && { windowBytes: Math.max(1, Math.trunc(windowBytes)) }),
      };
      this.stream = this._connection.machine.open(this.name, { metadata, priority, timeoutMs, ...windows });
    } catch (error) {
      this.fail(error);
      return null;
    }
    this.flush();
    return this.stream;
  }

  // Sending.

  /** @param {unknown} value @returns {Promise<void>} */
  send(value) {
    if (this._sendOver !== null) return Promise.reject(this._sendOver);
    try {
      const payload = encodeItem(value, this.isRaw);
      if (this._sending.length === 0 && this._trySend(payload)) return DONE;
      return new Promise((resolve, reject) => this._sending.push({ payload, resolve, reject }));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The input of a call or a server stream, and the end behind it. @param {Uint8Array | null} payload */
  sendInput(payload) {
    /** @param {unknown} error */
    const reject = (error) => error instanceof LocalProtocolError && this.fail(error);
    if (payload !== null && this._sendOver === null) this._sending.push({ payload, resolve: noop, reject });
    this.end();
  }

  /** @param {Status} [status] @returns {Promise<void>} */
  end(status) {
    if (this._sendOver !== null) return DONE;
    this._sendOver = this._closedHere("ended");
    const ended = new Promise((resolve) => {
      this._sending.push({ payload: null, status, resolve: () => resolve(undefined), reject: () => resolve(undefined) });
    });
    this.flush();
    return /** @type {Promise<void>} */ (ended);
  }

  /** @param {Uint8Array} payload */
  _trySend(payload) {
    if (this.stream === null || !this._connection.machine.send(this.stream.id, [payload])) return false;
    this._itemsSent += 1;
    this._connection.kick();
    return true;
  }

  /** Go on with what waits to be sent. */
  flush() {
    while (this._sending.length > 0 && this.stream !== null) {
      const { payload, status, resolve, reject } = this._sending.peek();
      try {
        if (payload === null) this._connection.machine.end(this.stream.id, status);
        else if (!this._trySend(payload)) break;
        resolve();
      } catch (error) {
        reject(error);
      }
      if (this._sending.length > 0) this._sending.shift();
    }
    this._connection.kick();
    this._forgetIfOver();
  }

  /** @param {unknown} error */
  _endSending(error) {
    if (this._sendOver === null || this._sending.length > 0) this._sendOver = error;
    for (const { reject } of this._sending.drain()) reject(error);
    this._forgetIfOver();
  }

  // Receiving.

  get _hasItems() {
    return this._runs.length > 0;
  }

  /** @template T @param {() => T} take @returns {Promise<T>} */
  _request(take) {
    if (this._waiting.length > 0 || !(this._hasItems || this._over !== null)) {
      return new Promise((resolve, reject) => this._waiting.push({ take, resolve, reject }));
    }
    try {
      return Promise.resolve(take());
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The next item. @returns {Promise<IteratorResult<any, undefined>>} */
  next() {
    return this._request(this._takeItem);
  }

  /** The items that are here, at least one. @returns {Promise<IteratorResult<any[], undefined>>} */
  nextItems() {
    return this._request(this._takeItems);
  }

  /** @returns {IteratorResult<any, undefined>} */
  _item() {
    return this._hasItems ? { value: this._take(), done: false } : this._finish();
  }

  /** @returns {IteratorResult<any[], undefined>} */
  _items() {
    if (!this._hasItems) return this._finish();
    const values = [];
    let left = this._runs.peek().count - this._index;
    try {
      for (; left > 0; left -= 1) values.push(this._take());
    } catch (error) {
      if (values.length === 0) throw error; // else the next call raises it
    }
    return { value: values, done: false };
  }

  /** @returns {IteratorReturnResult<undefined>} */
  _finish() {
    const error = this._over?.error;
    if (error !== undefined) throw error;
    return { value: undefined, done: true };
  }

  /** Take the next item; consumption is told at a quarter of a window, and with the last item that is here. */
  _take() {
    const run = this._runs.peek();
    const index = this._index;
    this._index += 1;
    this._bufferedItems -= 1;
    this._takenItems += 1;
    this._takenBytes += run.costOf(index);
    if (this._index === run.count) {
      this._runs.shift();
      this._index = 0;
    }
    this._reportIfDue();
    try {
      return this.isRaw ? run.bytes(index) : run.value(index);
    } catch (error) {
      this.fail(error); // a loop does not tell its iterator when what it was given was an error
      throw error;
    }
  }

  _reportIfDue() {
    const { receiveCredit: credit, id } = /** @type {StreamMachine} */ (this.stream);
    const isDue = this._takenItems * 4 >= credit.windowItems || this._takenBytes * 4 >= credit.windowBytes;
    if (!isDue && this._hasItems) return;
    this._itemsReceived += this._takenItems;
    this._connection.machine.consume(id, this._takenItems, this._takenBytes);
    this._takenItems = this._takenBytes = 0;
    this._connection.kick();
    this._forgetIfOver();
  }

  _serveWaiting() {
    while (this._waiting.length > 0 && (this._hasItems || this._over !== null)) {
      const { take, resolve, reject } = this._waiting.shift();
      try {
        resolve(take());
      } catch (error) {
        reject(error);
      }
    }
  }

  /** The metadata of the answer; empty where there is none. @returns {Promise<Record<string, string>>} */
  async header() {
    if (this._header === null && !this._hasItems && this._over === null) {
      await new Promise((resolve, reject) => this._connection.awaitHeader(this, resolve, reject));
    }
    const error = this._over?.error;
    if (this._header === null && error !== undefined && !this._hasItems) throw error;
    return this._header ?? {};
  }

  /** @param {{error: unknown}} over */
  _endReceiving(over) {
    if (this._over !== null) return;
    this._over = over;
    this._cancelTimer();
    this._serveWaiting();
    this._connection.tellHeader(this);
    this._forgetIfOver();
  }

  _dropItems() {
    this._runs.drain();
    this._index = this._bufferedItems = 0;
    this._itemsReceived += this._takenItems;
    this._takenItems = this._takenBytes = 0;
  }

  // Both halves.

  /** @param {string} how */
  _closedHere(how) {
    return new LocalProtocolError(`can't send on ${JSON.stringify(this.name)}: this half was ${how} here`);
  }

  /** Refuse more of the peer's half. @param {string} [code] @param {string} [reason] */
  stop(code = "OK", reason = "") {
    this._dropItems();
    if (this._over?.error !== undefined) this._over = { error: undefined };
    if (this.stream !== null) this._connection.machine.stop(this.stream.id, code, reason);
    this._endReceiving({ error: undefined });
    this._forgetIfOver();
    this._connection.kick();
  }

  /** Abandon our half. @param {string} [code] @param {string} [reason] */
  reset(code = "CANCELLED", reason = "") {
    if (this.stream !== null) this._connection.machine.reset(this.stream.id, code, reason);
    this._endSending(this._closedHere("reset"));
    this._connection.kick();
  }

  /** Let go: the end of our half, and no more of the peer's. */
  leave() {
    const waiting = this._sending.drain();
    if (this.stream?.sendState === "open") {
      // Without what waited the half is not complete, and must not look so.
      if (waiting.some(({ payload }) => payload !== null)) this._connection.machine.reset(this.stream.id);
      else this._connection.machine.end(this.stream.id);
    }
    const error = this._closedHere("ended");
    this._sendOver ??= error;
    for (const { reject } of waiting) reject(error);
    this.stop();
  }

  /** Abandon both halves; who waits is told why. @param {unknown} error */
  fail(error) {
    const words = error instanceof Error && error.name !== "AbortError" ? `the caller failed (${error.name})` : "";
    if (this.stream !== null) {
      this._connection.machine.reset(this.stream.id, "CANCELLED", words);
      this._connection.machine.stop(this.stream.id, "CANCELLED", words);
    }
    this._dropItems();
    if (this._over !== null && this._over.error === undefined) this._over = { error };
    this._endSending(error);
    this._endReceiving({ error });
    this._forgetIfOver();
    this._connection.kick();
    this.onCut("failed", error);
  }

  /** Nothing more can happen to this stream, so nobody needs to know it any more. */
  _forgetIfOver() {
    if (this._over === null || this._hasItems || this._sendOver === null || this._sending.length > 0) return;
    this._cancelTimer();
    this.options.signal?.removeEventListener("abort", this._onAbort);
    this._connection.forget(this);
    if (this.isForgotten) return;
    this.isForgotten = true;
    this.onOver();
  }

  /** What the machine reports. @param {MachineEvent} event */
  on({ type, run, record, code = "", reason = "" }) {
    if (type === "received") {
      if (this._over !== null || run === undefined) return;
      this._runs.push(run);
      this._bufferedItems += run.count;
      this._serveWaiting();
      this._connection.tellHeader(this);
      this.onArrival();
    } else if (type === "writable") {
      this.flush();
    } else if (type === "ended") {
      this.trailers = record.trailers;
      const isOk = record.code === "OK";
      this._endReceiving({ error: isOk ? undefined : new RpcError(record.code, record.message, record.details) });
    } else if (type === "reset") {
      this._dropItems();
      const error = new StreamReset(code, reason);
      this._endReceiving({ error });
      this.onCut(type, error);
    } else if (type === "stopped") {
      const error = new StreamStopped(code, reason);
      this._endSending(error);
      this.onCut(type, error);
    } else if (type === "headed") {
      this._header = record;
      this._connection.tellHeader(this);
    }
  }

  /** The connection is over. What had arrived can still be taken. @param {ConnectionLost} error */
  lost(error) {
    this._endSending(error);
    this._endReceiving({ error });
    this.onCut("lost", error);
  }
}

/**
 * Items from the server; an asynchronous iterator. Leaving its loop cancels the handler. An error that ended the stream is
 * raised behind the items that came before it.
 *
 * @template [T=any]
 */
export class ReceiveStream {
  /** @type {StreamCore} */
  #core;
  /** @type {ReadableStream<T> | null} */
  #readable = null;

  /** Made by a client. @param {any} core */
  constructor(core) {
    this.#core = core;
  }

  /** What was asked for. */
  get name() {
    return this.#core.name;
  }

  /** String pairs that came with the end; empty before. */
  get trailers() {
    return this.#core.trailers;
  }

  /** The next item. A loop over the stream calls it; leaving the loop lets go of the stream, this does not. @returns {Promise<IteratorResult<T, undefined>>} */
  next() {
    return this.#core.next();
  }

  /** Let go of the stream: the end of our half, and STOP for the peer's. A loop that is left calls it. @returns {Promise<IteratorReturnResult<undefined>>} */
  return() {
    this.#core.leave();
    return Promise.resolve({ value: undefined, done: true });
  }

  /** @returns {this} */
  [Symbol.asyncIterator]() {
    return this;
  }

  /** At the end of an `await using` block. */
  async [/** @type {typeof Symbol.asyncDispose} */ (Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose"))]() {
    this.#core.leave();
  }

  /** The items in arrays, as many as have come together: the fast way to read many small ones. @returns {AsyncIterableIterator<T[]>} */
  runs() {
    const core = this.#core;
    return {
      next: () => core.nextItems(),
      return: () => this.return(),
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  /** The same items as a `ReadableStream` that takes no item before it is asked for one. @returns {ReadableStream<T>} */
  get readable() {
    const core = this.#core;
    this.#readable ??= new ReadableStream(
      {
        async pull(controller) {
          const { value, done } = await core.next();
          if (done) controller.close();
          else controller.enqueue(value);
        },
        cancel: () => core.leave(),
      },
      { highWaterMark: 0 },
    );
    return this.#readable;
  }

  /** The metadata that came before the first item; empty where there was none. */
  header() {
    return this.#core.header();
  }

  /** Refuse more items; what has not been taken is dropped. @param {string} [code] @param {string} [reason] */
  async stop(code, reason) {
    this.#core.stop(code, reason);
  }

  /** Abandon the whole stream: the handler is cancelled. @param {string} [reason] */
  async cancel(reason = "") {
    this.#core.reset("CANCELLED", reason);
    this.#core.stop("CANCELLED", reason);
  }

  /** A snapshot of both halves. @returns {StreamStatistics} */
  statistics() {
    return this.#core.statistics;
  }
}

/**
 * Items in both directions. Leaving a loop over it lets go of both; use `next` to take some items and go on sending.
 *
 * @template [S=any]
 * @template [T=any]
 * @extends {ReceiveStream<T>}
 */
export class BidiStream extends ReceiveStream {
  /** @type {StreamCore} */
  #core;
  /** @type {WritableStream<S> | null} */
  #writable = null;

  /** Made by a client. @param {any} core */
  constructor(core) {
    super(core);
    this.#core = core;
  }

  /**
   * Send an item. Await it: it resolves when the item was queued within the peer's credit, which is the backpressure.
   *
   * @param {S} value
   * @returns {Promise<void>} rejects with `StreamStopped` where the peer takes no more
   */
  send(value) {
    return this.#core.send(value);
  }

  /** Finish our half, behind its items. @returns {Promise<void>} */
  end() {
    return this.#core.end();
  }

  /** Abandon our half: items that were not delivered are dropped. @param {string} [code] @param {string} [reason] */
  async reset(code, reason) {
    this.#core.reset(code, reason);
  }

  /** Our half as a `WritableStream`. @returns {WritableStream<S>} */
  get writable() {
    const core = this.#core;
    this.#writable ??= new WritableStream({
      write: (value) => core.send(value),
      close: () => core.end(),
      abort: () => core.reset(),
    });
    return this.#writable;
  }
}

// -- a connection --------------------------------------------------------------------------------------------------------

const WRITE_BYTES = 65_536;
const POLL_MS = 4;
/** Microtasks without a new item after which what waits is written: who sends in a loop comes back within a few. */
const QUIET_TICKS = 8;
const MAX_TICKS = 512;

/**
 * What carries a connection's bytes, such as a WebSocket.
 *
 * @typedef {object} Carrier
 * @property {(bytes: Uint8Array) => void} send
 * @property {(code: number, reason: string) => void} close
 * @property {() => number} bufferedBytes what was sent and has not left
 */

/**
 * `attached`: there is a carrier, and streams go on. `detached`: it was lost, and another one is looked for; streams and
 * calls wait. `closed`: it is over.
 *
 * @typedef {"attached" | "detached" | "closed"} ConnectionState
 */

/**
 * What has become of a connection, for people.
 *
 * @typedef {object} StateChange
 * @property {ConnectionState} state
 * @property {number} resumes how often the session went on with another carrier
 * @property {unknown} [cause] of `detached` and `closed`: why the carrier was lost, where it was not closed here
 */

/** Streams over a machine, and when the machine's output is written. It knows no WebSocket. */
class Connection {
  /** @param {string} peer @param {Machine} machine @param {number} maxBufferedBytes */
  constructor(peer, machine, maxBufferedBytes) {
    this.peer = peer;
    this.machine = machine;
    /** The machine, where it is one that can go on with another carrier. */
    this.session = machine instanceof Session ? machine : null;
    /** @type {ConnectionState} */
    this.state = "attached";
    /** @type {((change: StateChange) => void) | null} */
    this.onstatechange = null;
    /** Told when a carrier was lost and another one may take its place. */
    this.onDetached = noop;
    /** Takes the streams that the peer opens; until it is set they wait. @type {((core: StreamCore) => void) | null} */
    this._onAccepted = null;
    /** @type {StreamCore[]} */
    this._accepted = [];
    /** Why the last carrier was lost, or none could be had. @type {Error | null} */
    this.lastFault = null;
    /** @type {ConnectionLost | null} */
    this.lost = null;
    this.isClosedHere = false;
    this.bytesSent = 0;
    this.bytesReceived = 0;
    this.streamsOpened = 0;
    /** @type {Promise<ConnectionLost | null>} */
    this.closed = new Promise((resolve) => (this._tellClosed = resolve));
    /** @type {Promise<void>} */
    this.ready = new Promise((resolve) => (this._tellReady = resolve));
    /** @type {Carrier | null} */
    this._carrier = null;
    this._maxBufferedBytes = maxBufferedBytes;
    /** @type {Set<StreamCore>} */
    this._cores = new Set();
    /** @type {Map<number, StreamCore>} */
    this._byId = new Map();
    /** @type {Set<StreamCore>} */
    this._unopened = new Set();
    /** @type {Map<StreamCore, (() => void)[]>} */
    this._awaitingHeader = new Map();
    this._isCarrierOpen = false;
    this._isScheduled = false;
    this._ticks = 0;
    this._quiet = 0;
    this._seen = 0;
    this._tick = () => this._flushWhenQuiet();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this._poll = undefined;
    this._alarmAt = Infinity;
    this._cancelAlarm = noop;
  }

  // For the streams.

  /** @param {StreamCore} core */
  open(core) {
    if (this.lost !== null) return core.lost(this.lost);
    if (this.machine.peerWentAway) return core.lost(this._goneAway());
    this._cores.add(core);
    this._unopened.add(core);
    return this._openWaiting();
  }

  _openWaiting() {
    for (const core of this._unopened) {
      if (!this.machine.canOpen) return this.machine.noteWishToOpen();
      this._unopened.delete(core);
      const stream = core.open();
      if (stream === null) continue;
      this.streamsOpened += 1;
      if (this._cores.has(core)) this._byId.set(stream.id, core);
    }
    return this.kick();
  }

  _goneAway() {
    return new ConnectionLost(`${this.peer} takes no new streams: it is going away`);
  }

  /** @param {StreamCore} core */
  forget(core) {
    this._cores.delete(core);
    this._unopened.delete(core);
    if (core.stream === null) return;
    this._byId.delete(core.stream.id);
    if (core.isAccepted) this.machine.release(core.stream.id);
  }

  /** Take the streams that the peer opens: those that wait now, and all that come. @param {(core: StreamCore) => void} onAccepted */
  handOver(onAccepted) {
    this._onAccepted = onAccepted;
    for (const core of this._accepted.splice(0)) onAccepted(core);
  }

  /** @param {number} id @param {{name: string, metadata: Record<string, string>, timeout_ms: number | null}} record */
  _accept(id, { name, metadata, timeout_ms: timeout }) {
    // Its receiver parses the items: a wrong one must not cost more than an answer.
    const core = new StreamCore(this, name, { metadata, raw: true, ...(timeout !== null && { timeout }) });
    core.accept(/** @type {StreamMachine} */ (this.machine.get(id)));
    this._cores.add(core);
    this._byId.set(id, core);
    if (this._onAccepted === null) this._accepted.push(core);
    else this._onAccepted(core);
  }

  /** @param {StreamCore} core @param {(value?: any) => void} resolve @param {(error: unknown) => void} reject */
  awaitHeader(core, resolve, reject) {
    if (this.lost !== null) return reject(this.lost);
    const waiting = this._awaitingHeader.get(core) ?? [];
    waiting.push(resolve);
    return this._awaitingHeader.set(core, waiting);
  }

  /** @param {StreamCore} core */
  tellHeader(core) {
    for (const resolve of this._awaitingHeader.get(core) ?? []) resolve();
    this._awaitingHeader.delete(core);
  }

  /** Something may wait to be written. */
  kick() {
    if (this._isScheduled || !this.machine.hasOutput) return;
    this._isScheduled = true;
    this._ticks = this._quiet = 0;
    this._seen = this.machine.itemsQueued;
    queueMicrotask(this._tick);
  }

  /** Items that are sent one by one leave together: writing waits while more of them come within this very task. */
  _flushWhenQuiet() {
    const { itemsQueued } = this.machine;
    this._ticks += 1;
    this._quiet = itemsQueued === this._seen ? this._quiet + 1 : 0;
    this._seen = itemsQueued;
    if (this._quiet < QUIET_TICKS && this._ticks < MAX_TICKS) {
      queueMicrotask(this._tick);
      return;
    }
    this._isScheduled = false;
    this.flush();
  }

  // For the carrier.

  /** Go on with a carrier, which may not yet be open. @param {Carrier} carrier */
  attach(carrier) {
    this._carrier = carrier;
    if (this.session?.isAttached === false) this.session.attach(performance.now());
    this._arm();
  }

  /** A carrier takes bytes from now on. @param {Carrier} carrier */
  opened(carrier) {
    if (carrier !== this._carrier) return;
    this._isCarrierOpen = true;
    this.flush();
  }

  /** A carrier is of no use any more. @param {Carrier} carrier @param {Error} error */
  failed(carrier, error) {
    if (carrier !== this._carrier || this.lost !== null) return; // it was known
    if (this.machine.canOutlive) this._detach(error);
    else this.lose(error);
  }

  /** @param {Error} error */
  _detach(error) {
    const carrier = this._carrier;
    clearTimeout(this._poll);
    this._poll = undefined;
    this._carrier = null;
    this._isCarrierOpen = false;
    this.lastFault = error;
    /** @type {Session} */ (this.session).detach();
    carrier?.close(1_000, "");
    this._tell("detached", error);
    this.onDetached();
  }

  /** @param {ConnectionState} state @param {unknown} [cause] */
  _tell(state, cause) {
    if (state === this.state) return;
    this.state = state;
    const change = { state, resumes: this.session?.resumes ?? 0, ...(cause instanceof Error && { cause }) };
    queueMicrotask(() => this.onstatechange?.(change)); // what it raises is not ours to catch
  }

  /** There will be no other carrier. @param {string} reason */
  giveUp(reason) {
    const why = this.lastFault === null ? "" : ` (${this.lastFault.message})`;
    this.lose(new ConnectionLost(`the connection to ${this.peer} was lost and not resumed: ${reason}${why}`, this.lastFault));
  }

  /** @param {Carrier} carrier @param {Uint8Array} bytes */
  received(carrier, bytes) {
    if (this.lost !== null || carrier !== this._carrier) return;
    this.bytesReceived += bytes.length;
    this.machine.receive(bytes, performance.now());
    this._dispatch();
    if (this.machine.failure !== null || this._poll !== undefined) this.flush();
    else this.kick();
    this._arm();
  }

  /** Write what there is, unless the carrier holds too much already: what is urgent can then still overtake. */
  flush() {
    clearTimeout(this._poll);
    this._poll = undefined;
    while (this._carrier !== null && this._isCarrierOpen && this.lost === null && this.machine.hasOutput) {
      if (this.machine.failure === null && this._carrier.bufferedBytes() > this._maxBufferedBytes) {
        // A WebSocket has no event for the moment when it has room again.
        this._poll = setTimeout(() => this.flush(), POLL_MS);
        break;
      }
      const bytes = this.machine.toSend(WRITE_BYTES);
      this.bytesSent += bytes.length;
      if (bytes.length > 0) this._carrier.send(bytes);
      this._dispatch();
    }
    if (this.machine.failure !== null) this.lose(this.machine.failure);
  }

  _dispatch() {
    for (let events = this.machine.takeEvents(); events.length > 0; events = this.machine.takeEvents()) {
      for (const event of events) {
        if (event.type === "opened") this._accept(event.id, event.record);
        else if (event.id !== 0) this._byId.get(event.id)?.on(event);
        else this._onEvent(event);
      }
    }
  }

  /** @param {MachineEvent} event */
  _onEvent({ type, error }) {
    if (type === "greeted") {
      this._tellReady?.();
    } else if (type === "resumed") {
      this._tell("attached");
    } else if (type === "carrier-failed") {
      if (this._carrier !== null) this.failed(this._carrier, /** @type {Error} */ (error));
    } else if (type === "streams-allowed") {
      this._openWaiting();
    } else if (type === "went-away") {
      const goneAway = this._goneAway();
      for (const core of this._unopened) core.lost(goneAway);
    }
  }

  /** One timer, which is looked at again when it has passed. */
  _arm() {
    const { deadline } = this.machine;
    if (deadline >= this._alarmAt || this.lost !== null) return;
    this._cancelAlarm();
    this._alarmAt = deadline;
    this._cancelAlarm = after(deadline - performance.now(), () => {
      this._alarmAt = Infinity;
      this.machine.handleDeadline(performance.now());
      this._dispatch();
      this.flush();
      this._arm();
    });
  }

  /** The connection is over: each stream ends with it, once. @param {Error} error */
  lose(error) {
    if (this.lost !== null) return;
    const isProtocol = error instanceof ProtocolError;
    this.lost = isProtocol ? new ConnectionLost(`the connection to ${this.peer} failed: ${error.message}`, error) : /** @type {ConnectionLost} */ (error);
    clearTimeout(this._poll);
    this._cancelAlarm();
    for (const core of [...this._cores]) core.lost(this.lost);
    const code = isProtocol ? 4_000 + codeNumber(error.code) : 1_000;
    this._carrier?.close(code, isProtocol ? error.message : "");
    this._tell("closed", this.isClosedHere ? undefined : this.lost);
    this._tellReady?.();
    this._tellClosed?.(this.isClosedHere ? null : this.lost);
  }

  /** Cancel what is under way, say goodbye, and close. */
  close() {
    if (this.lost !== null) return;
    this.isClosedHere = true;
    const error = new ConnectionLost(`the connection to ${this.peer} was closed here`);
    for (const core of [...this._cores]) core.fail(error);
    this.machine.goAway("OK", "closed");
    this._maxBufferedBytes = Infinity;
    this.flush();
    this.lose(error);
  }
}

function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * A snapshot of a connection.
 *
 * @typedef {object} ConnectionStatistics
 * @property {string} peer
 * @property {boolean} isOpen
 * @property {ConnectionState} state
 * @property {boolean} isResumable whether another carrier may take the place of this one: both sides offer it
 * @property {number} resumes how often that has happened
 * @property {number} retainedBytes what is kept for it: written and not acknowledged
 * @property {number} streams those that are alive
 * @property {number} streamsOpened all that there ever were
 * @property {number} streamsWaiting those that the peer has not yet allowed
 * @property {number} queuedBytes what waits in the machine, an item at its length and 64
 * @property {number} unreadBytes what arrived and was not taken, counted likewise
 * @property {number} bytesSent
 * @property {number} bytesReceived
 * @property {number | null} roundTrip milliseconds that the last ping took
 */

// -- the client ----------------------------------------------------------------------------------------------------------

/** What clients and peers have in common: the connection under them. */
export class Endpoint {
  /** @type {Connection} */
  #connection;

  /** @param {any} connection */
  constructor(connection) {
    this.#connection = connection;
    /**
     * Resolves when the connection is over: with why it was lost, or with null where it was closed here. It never rejects.
     *
     * @readonly
     * @type {Promise<ConnectionLost | null>}
     */
    this.closed = connection.closed;
  }

  /** Whether streams can be opened and used; while the connection is detached they wait. */
  get isOpen() {
    return this.#connection.lost === null && !this.#connection.machine.peerWentAway;
  }

  /** Whether the connection has a carrier, waits for another one, or is over. */
  get state() {
    return this.#connection.state;
  }

  /** Called with each change of `state`; null for nobody. */
  get onstatechange() {
    return this.#connection.onstatechange;
  }

  set onstatechange(listener) {
    this.#connection.onstatechange = listener;
  }

  /** A snapshot of the connection. @returns {ConnectionStatistics} */
  statistics() {
    const { machine, session, peer, lost, state, streamsOpened, bytesSent, bytesReceived, _unopened } = this.#connection;
    const { streamCount: streams, queuedBytes, unreadBytes, roundTrip, canOutlive: isResumable } = machine;
    const counts = { streams, streamsOpened, streamsWaiting: _unopened.size };
    const sessions = { state, isResumable, resumes: session?.resumes ?? 0, retainedBytes: session?.retainedBytes ?? 0 };
    return { peer, isOpen: lost === null, ...sessions, ...counts, queuedBytes, unreadBytes, bytesSent, bytesReceived, roundTrip };
  }

  /** Measure the round trip; `statistics` shows it when the answer is there. */
  ping() {
    if (this.#connection.state !== "attached") return;
    this.#connection.machine.ping(performance.now());
    this.#connection.kick();
  }

  /** Cancel what is under way, say goodbye and close. While the connection is detached there is nobody to say it to. */
  close() {
    this.#connection.close();
  }

  /** At the end of a `using` block. */
  [/** @type {typeof Symbol.dispose} */ (Symbol.dispose ?? Symbol.for("Symbol.dispose"))]() {
    this.close();
  }
}

/** Calls procedures on one connection; made by `connect`. */
export class Client extends Endpoint {
  /** @type {Connection} */
  #connection;

  /** Made by `connect`. @param {any} connection */
  constructor(connection) {
    super(connection);
    this.#connection = connection;
  }

  /** @param {string} name @param {StreamOptions} options @param {Uint8Array | null} [input] */
  #open(name, options, input) {
    const core = new StreamCore(this.#connection, name, options);
    core.begin();
    if (input !== undefined) core.sendInput(input);
    return core;
  }

  /**
   * Call a procedure: one input, one result.
   *
   * @template [T=any]
   * @param {string} name
   * @param {unknown} [input] anything that JSON can say; undefined for none
   * @param {StreamOptions} [options]
   * @returns {Promise<T>} rejects with `RpcError`, `ConnectionLost`, or the signal's reason
   */
  async call(name, input, options = {}) {
    const payload = input === undefined ? null : encodeItem(input, options.raw === true);
    const core = this.#open(name, options, payload);
    try {
      return await onlyItem(core);
    } finally {
      core.leave();
    }
  }

  /**
   * Start a server stream. It runs from now on, as far as the windows let it; leaving a loop over it cancels it.
   *
   * @template [T=any]
   * @param {string} name
   * @param {unknown} [input] as for `call`
   * @param {StreamOptions} [options]
   * @returns {ReceiveStream<T>}
   */
  stream(name, input, options = {}) {
    const payload = input === undefined ? null : encodeItem(input, options.raw === true);
    return new ReceiveStream(this.#open(name, options, payload));
  }

  /**
   * Send every item, take one result. The items are not read to their end if the handler answers before.
   *
   * @template [T=any]
   * @param {string} name
   * @param {Iterable<unknown> | AsyncIterable<unknown> | ReadableStream<unknown>} items
   * @param {StreamOptions} [options]
   * @returns {Promise<T>} rejects as `call` does, and with what `items` raises
   */
  async upload(name, items, options = {}) {
    const source = new Source(items);
    const core = this.#open(name, options);
    sendAll(core, source);
    try {
      return await onlyItem(core);
    } finally {
      source.close();
      core.leave();
    }
  }

  /**
   * Start a stream in both directions.
   *
   * @template [S=any]
   * @template [T=any]
   * @param {string} name
   * @param {StreamOptions} [options]
   * @returns {BidiStream<S, T>}
   */
  bidi(name, options = {}) {
    return new BidiStream(this.#open(name, options));
  }
}

/** The one item of an answer, once the end behind it says that it was all. @param {StreamCore} core */
async function onlyItem(core) {
  const { value, done } = await core.next();
  if (done) throw new RpcError("INTERNAL", `${JSON.stringify(core.name)} answered without a result`);
  const { done: isAll } = await core.next();
  if (isAll) return value;
  const message = `${JSON.stringify(core.name)} answers with a run of items: use stream() or bidi()`;
  throw new RpcError("FAILED_PRECONDITION", message);
}

/** What an upload takes its items from. */
class Source {
  /** @param {any} items */
  constructor(items) {
    if (items?.[Symbol.asyncIterator]) {
      this._iterator = items[Symbol.asyncIterator]();
    } else if (typeof items?.getReader === "function") {
      const reader = items.getReader();
      this._iterator = { next: () => reader.read(), return: () => reader.cancel() };
    } else if (items?.[Symbol.iterator]) {
      this._iterator = items[Symbol.iterator]();
    } else {
      throw new TypeError("an upload takes an iterable, an async iterable or a ReadableStream");
    }
    this._isOver = false;
  }

  /** @returns {Promise<IteratorResult<unknown>>} */
  async next() {
    try {
      const result = await this._iterator.next();
      if (result.done) this._isOver = true;
      return result;
    } catch (error) {
      this._isOver = true;
      throw error;
    }
  }

  /** No more is wanted. It may be busy making the next item, so nobody waits for it. */
  async close() {
    if (this._isOver) return;
    this._isOver = true;
    try {
      await this._iterator.return?.();
    } catch {
      // Nobody is there to hear what its `finally` raises.
    }
  }
}

/** @param {StreamCore} core @param {Source} source */
async function sendAll(core, source) {
  for (;;) {
    let item;
    try {
      item = await source.next();
    } catch (error) {
      core.fail(error);
      return;
    }
    try {
      if (item.done) return await core.end();
      await core.send(item.value);
    } catch (error) {
      // Where the handler takes no more, or the connection is gone, the answer says why.
      const isRefused = error instanceof StreamStopped || error instanceof ConnectionLost || core._over !== null;
      if (!isRefused) core.fail(error);
      source.close();
      return;
    }
  }
}

// -- peers: streams whose ids both sides know ------------------------------------------------------------------------------

const REQUEST = "peer.request";
const SEND = "peer.send";
const STREAM = "peer.stream";
const STREAM_ID = "stream-id";
const CONTENT_TYPE = "content-type";
const CONTENT_ENCODING = "content-encoding";
const AFTER = "after";
const JSON_TYPE = "application/json";
const BYTES_TYPE = "application/octet-stream";
const NDJSON_TYPE = "application/x-ndjson";
const MAX_ID_CHARACTERS = 256;
/** Enough to tell an id that came late from one that never was. */
const MAX_RECENT_IDS = 1_024;
/** Calls and streams that the other side may have open at once. */
const PEER_STREAMS = 1_024;

/**
 * Limits of a peer's streams. Past one of them a stream is refused, with an error at both ends; an item is never dropped alone.
 *
 * @typedef {object} PeerOptions
 * @property {number} [maxBufferedStreamBytes] bytes of items, each at its length and 64, in streams that nobody has claimed yet
 * @property {number} [maxUnclaimedStreams] streams that nobody has claimed yet
 * @property {number} [unclaimedTimeout] milliseconds that such a stream waits
 */

/** @type {Readonly<Required<PeerOptions>>} */
const DEFAULT_PEER = Object.freeze({ maxBufferedStreamBytes: 1_048_576, maxUnclaimedStreams: 100, unclaimedTimeout: 10_000 });

/** The loss of a connection, as peers report it. @param {unknown} error */
function closedError(error) {
  return error instanceof ConnectionLost ? new ConnectionLost(`Connection closed: ${error.message}`, error) : error;
}

/** What a failure tells the other side: the text of what is not ours stays here. @param {unknown} error @returns {Status} */
function statusOf(error) {
  if (error instanceof RpcError) return { code: error.code, message: error.message, details: error.details };
  if (error instanceof CodecError) return { code: "INVALID_ARGUMENT", message: error.message };
  if (error instanceof ProtocolError) return { code: error.code, message: error.message };
  if (error instanceof ConnectionLost) return { code: "UNAVAILABLE", message: error.message };
  return { code: "INTERNAL", message: "internal error" };
}

/** One item that came as bytes. @param {Uint8Array} bytes */
function parseBytes(bytes) {
  let text;
  try {
    text = strictDecoder.decode(bytes);
  } catch (error) {
    throw new CodecError(`an item of ${bytes.length} bytes is not UTF-8`, error);
  }
  return parseItem(text);
}

/** @param {string} id */
function checkId(id) {
  if (typeof id === "string" && id.length > 0 && id.length <= MAX_ID_CHARACTERS) return id;
  const size = String(id).length;
  const message = `a stream's id has 1 to ${MAX_ID_CHARACTERS} characters, not ${size}`;
  throw new LocalProtocolError(message, { field: "streamId", size, limit: MAX_ID_CHARACTERS });
}

/** @param {string} action @param {string} id @param {string} why @param {string} [code] */
const badId = (action, id, why, code = "NOT_FOUND") =>
  new LocalProtocolError(`can't ${action} stream ${JSON.stringify(id)}: ${why}`, { code, field: "streamId" });

/** Something about each of the newest ids. @template V */
class RecentIds {
  constructor() {
    /** @type {Map<string, V>} */
    this._values = new Map();
  }

  /** @param {string} id */
  has(id) {
    return this._values.has(id);
  }

  /** @param {string} id @param {V} value */
  add(id, value) {
    this._values.delete(id);
    this._values.set(id, value);
    if (this._values.size > MAX_RECENT_IDS) this._values.delete(/** @type {string} */ (this._values.keys().next().value));
  }

  /** @param {string} id */
  take(id) {
    const value = this._values.get(id);
    this._values.delete(id);
    return value;
  }
}

/** The statistics of a stream that has not begun. @type {StreamStatistics} */
const UNBEGUN = Object.freeze({
  id: 0,
  name: STREAM,
  sendState: "closed",
  receiveState: "open",
  windowItems: 0,
  windowBytes: 0,
  creditItems: 0,
  creditBytes: 0,
  bufferedItems: 0,
  bufferedBytes: 0,
  queuedItems: 0,
  queuedBytes: 0,
  waitingSends: 0,
  waitingReceives: 0,
  itemsSent: 0,
  itemsReceived: 0,
  bytesSent: 0,
  bytesReceived: 0,
});

/** A stream that the other side sends: asked for before or after it begins. To `ReceiveStream` it looks like a `StreamCore`. */
class Incoming {
  /** @param {string | null} id @param {(incoming: Incoming) => void} onOver told once, when nothing more will come out */
  constructor(id, onOver) {
    this.id = id;
    this.name = STREAM;
    /** @type {StreamCore | null} */
    this.core = null;
    this.isOver = false;
    this._onOver = onOver;
    this._isBatched = false;
    /** What is left of a batch. @type {Queue<string>} */
    this._lines = new Queue();
    /** Calls of a batched stream, one behind the other. @type {Promise<unknown>} */
    this._turn = DONE;
    this._isLeft = false;
    /** @type {Error | null} */
    this._failure = null;
    /** @type {Promise<string>} */
    this.begun = new Promise((resolve, reject) => {
      this._tellBegun = resolve;
      this._tellFailed = reject;
    });
    this.begun.catch(noop); // whoever takes items hears of it, too
    /** Resolves when the stream that comes before this one is over. @type {Promise<unknown>} */
    this._gate = DONE;
  }

  // What its manager tells.

  /** @param {string} id @param {StreamCore} core @param {Promise<unknown> | null} gate */
  begin(id, core, gate) {
    this.id = id;
    this.core = core;
    core.onArrival = noop;
    const type = core.metadata[CONTENT_TYPE] ?? JSON_TYPE;
    const coding = core.metadata[CONTENT_ENCODING];
    if (![JSON_TYPE, BYTES_TYPE, NDJSON_TYPE].includes(type)) {
      const message = `content-type is ${JSON_TYPE}, ${BYTES_TYPE} or ${NDJSON_TYPE}, not ${type.slice(0, 64)}`;
      return this.refuse(new RpcError("UNIMPLEMENTED", message));
    }
    if (coding !== undefined) {
      const message = `content-encoding ${JSON.stringify(coding.slice(0, 64))} can't be decoded here: send without compression`;
      return this.refuse(new RpcError("UNIMPLEMENTED", message));
    }
    core.isRaw = type !== JSON_TYPE;
    this._isBatched = type === NDJSON_TYPE;
    this._gate = gate ?? DONE;
    core.onOver = () => this._lookIfOver();
    this._tellBegun?.(id);
    return this._lookIfOver();
  }

  /** Not taken: say so at both ends. @param {RpcError} error */
  refuse(error) {
    this.fail(error);
    this.core?.stop(error.code, error.message);
    this._finish();
  }

  /** @param {Error} error */
  fail(error) {
    this._failure ??= error;
    this._tellFailed?.(this._failure);
  }

  /** The connection is over; what had arrived of a stream that has begun can still be taken. @param {ConnectionLost} error */
  lose(error) {
    if (this.core !== null) return;
    this.fail(/** @type {Error} */ (closedError(error)));
    this._finish();
  }

  _lookIfOver() {
    if (this.core?.isForgotten && this._lines.length === 0) this._finish();
  }

  _finish() {
    if (this.isOver) return;
    this.isOver = true;
    this._onOver(this);
  }

  // What a `ReceiveStream` asks.

  get trailers() {
    return this.core?.trailers ?? {};
  }

  get statistics() {
    return this.core?.statistics ?? UNBEGUN;
  }

  async header() {
    return (await this._wait())?.header() ?? {};
  }

  /** The stream on the wire once it may be read; null where it was closed here. */
  async _wait() {
    if (!this._isLeft && this.core === null && this._failure === null) await this.begun.catch(noop);
    if (!this._isLeft) await this._gate;
    if (this._isLeft) return null;
    if (this._failure !== null) throw this._failure;
    return /** @type {StreamCore} */ (this.core);
  }

  /** @template T @param {(core: StreamCore) => Promise<IteratorResult<T, undefined>>} take @returns {Promise<IteratorResult<T, undefined>>} */
  async _take(take) {
    try {
      const core = await this._wait();
      return core === null ? { value: undefined, done: true } : await take(core);
    } catch (error) {
      throw closedError(error);
    }
  }

  /** @template T @param {() => Promise<T>} call @returns {Promise<T>} */
  _inTurn(call) {
    const result = this._turn.then(call);
    this._turn = result.catch(noop);
    return result;
  }

  /** @returns {Promise<IteratorResult<any, undefined>>} */
  next() {
    if (!this._isBatched && this.core !== null) return this._take((core) => core.next());
    return this._inTurn(() => this._take((core) => (this._isBatched ? this._nextLine(core) : core.next())));
  }

  /** @returns {Promise<IteratorResult<any[], undefined>>} */
  nextItems() {
    return this._inTurn(() => this._take((core) => (this._isBatched ? this._nextLines(core) : core.nextItems())));
  }

  /** @param {StreamCore} core @returns {Promise<IteratorResult<any, undefined>>} */
  async _nextLine(core) {
    if (!(await this._fillLines(core))) return { value: undefined, done: true };
    return { value: this._parse(core, this._lines.shift()), done: false };
  }

  /** @param {StreamCore} core @returns {Promise<IteratorResult<any[], undefined>>} */
  async _nextLines(core) {
    if (!(await this._fillLines(core))) return { value: undefined, done: true };
    return { value: this._lines.drain().map((line) => this._parse(core, line)), done: false };
  }

  /** Whether there are lines. @param {StreamCore} core */
  async _fillLines(core) {
    while (this._lines.length === 0) {
      const { value, done } = await core.next();
      if (done) return false;
      let text;
      try {
        text = strictDecoder.decode(value);
      } catch (error) {
        throw this._broken(core, new CodecError(`a batch of ${value.length} bytes is not UTF-8`, error));
      }
      for (const line of text.split("\n")) if (line.trim() !== "") this._lines.push(line);
    }
    return true;
  }

  /** @param {StreamCore} core @param {string} line */
  _parse(core, line) {
    try {
      return parseItem(line);
    } catch (error) {
      throw this._broken(core, /** @type {Error} */ (error));
    } finally {
      this._lookIfOver();
    }
  }

  /** @param {StreamCore} core @param {Error} error */
  _broken(core, error) {
    this._lines.drain();
    core.fail(error);
    return error;
  }

  leave() {
    this.stop();
  }

  /** @param {string} [code] @param {string} [reason] */
  stop(code = "OK", reason = "") {
    if (this.isOver) return;
    this._isLeft = true;
    this._lines.drain();
    this._tellFailed?.(new LocalProtocolError(`stream ${JSON.stringify(this.id)} was closed here`, { field: "streamId" }));
    this.core?.stop(code, reason);
    this._finish();
  }

  reset() {} // our half has ended with its beginning
}

/**
 * A stream that the other side sends; an asynchronous iterator. Leaving its loop tells the sender to stop.
 *
 * @template [T=any]
 * @extends {ReceiveStream<T>}
 */
export class PeerStream extends ReceiveStream {
  /** @type {Incoming} */
  #incoming;

  /** Made by a peer. @param {any} incoming */
  constructor(incoming) {
    super(incoming);
    this.#incoming = incoming;
  }

  /** The id that both sides know it by; null while it is not known which stream this will be. */
  get id() {
    return this.#incoming.id;
  }

  /** Resolves with the id once the other side has begun the stream; rejects where it never will. */
  get begun() {
    return this.#incoming.begun;
  }
}

/** Streams of the other side that came before their receivers: kept within the limits, and refused past one of them. */
class Unclaimed {
  /** @param {Required<PeerOptions>} options @param {(id: string, core: StreamCore, error: RpcError) => void} refuse */
  constructor(options, refuse) {
    this._options = options;
    this._refuse = refuse;
    /** @type {Map<string, {core: StreamCore, size: number, cancel: () => void}>} */
    this._waiting = new Map();
    this._bytes = 0;
  }

  /** @param {string} id */
  has(id) {
    return this._waiting.has(id);
  }

  /** @param {string} id @param {StreamCore} core */
  add(id, core) {
    const { maxUnclaimedStreams: most, unclaimedTimeout: timeout } = this._options;
    if (this._waiting.size >= most) return this._refuse(id, core, this._tooMuch(id, "maxUnclaimedStreams", most));
    const cancel = after(timeout, () => {
      const message = `nobody has claimed stream ${JSON.stringify(id)} within unclaimedTimeout of ${timeout} ms`;
      this._drop(id, new RpcError("DEADLINE_EXCEEDED", message, { field: "unclaimedTimeout" }));
    });
    this._waiting.set(id, { core, size: 0, cancel });
    core.onArrival = () => this._count(id);
    return this._count(id);
  }

  /** Claim a stream; null for the one that came first. @param {string | null} id @returns {[string, StreamCore] | null} */
  take(id) {
    const [first] = this._waiting.keys();
    const wanted = id ?? first;
    const waiting = this._waiting.get(wanted);
    if (waiting === undefined) return null;
    waiting.cancel();
    waiting.core.onArrival = noop;
    this._waiting.delete(wanted);
    this._bytes -= waiting.size;
    return [wanted, waiting.core];
  }

  /** Nobody will claim them any more. */
  clear() {
    for (const id of [...this._waiting.keys()]) this.take(id)?.[1].stop();
  }

  /** @param {string} id */
  _count(id) {
    const waiting = this._waiting.get(id);
    if (waiting === undefined) return;
    const size = waiting.core.bufferedBytes;
    this._bytes += size - waiting.size;
    waiting.size = size;
    const limit = this._options.maxBufferedStreamBytes;
    if (this._bytes > limit) this._drop(id, this._tooMuch(id, "maxBufferedStreamBytes", limit));
  }

  /** @param {string} id @param {RpcError} error */
  _drop(id, error) {
    const taken = this.take(id);
    if (taken !== null) this._refuse(id, taken[1], error);
  }

  /** @param {string} id @param {string} field @param {number} limit */
  _tooMuch(id, field, limit) {
    const message = `stream ${JSON.stringify(id)} passes ${field} of ${limit}: nobody has claimed it`;
    return new RpcError("RESOURCE_EXHAUSTED", message, { field, limit });
  }
}

/** The streams that the other side sends, by their ids. */
class IncomingStreams {
  /** @param {Required<PeerOptions>} options */
  constructor(options) {
    this.unclaimed = new Unclaimed(options, (id, core, error) => this._refuseUnclaimed(id, core, error));
    /** Claimed and not over, begun or not. @type {Map<string, Incoming>} */
    this._claims = new Map();
    /** For whatever comes next. @type {Set<Incoming>} */
    this._nameless = new Set();
    /** @type {RecentIds<true>} */
    this._received = new RecentIds();
    /** @type {RecentIds<RpcError>} */
    this._refused = new RecentIds();
    /** What waits for a stream to be over. @type {Map<string, {promise: Promise<unknown>, open: () => void}>} */
    this._gates = new Map();
    /** @type {ConnectionLost | null} */
    this._lost = null;
  }

  /** @param {string | null} id */
  claim(id) {
    if (id !== null && this._claims.has(checkId(id))) throw badId("receive", id, "it has a receiver", "ALREADY_EXISTS");
    const incoming = new Incoming(id, (over) => this._onOver(over));
    const waiting = this.unclaimed.take(id);
    const refusal = waiting === null && id !== null ? this._refused.take(id) : undefined;
    if (waiting !== null) this._begin(incoming, ...waiting);
    else if (refusal !== undefined) incoming.refuse(refusal);
    else if (this._lost !== null) incoming.lose(this._lost);
    else if (id === null) this._nameless.add(incoming);
    else this._claims.set(id, incoming);
    return incoming;
  }

  /** Take a stream that the other side has opened: for who claimed it, or for who will. @param {StreamCore} core */
  accept(core) {
    core.end(); // it carries nothing in this direction
    const id = core.metadata[STREAM_ID] ?? "";
    const fault = this._findFault(id);
    if (fault !== null) return core.stop(fault.code, fault.message);
    const [next] = this._nameless;
    const claim = this._claims.get(id) ?? next;
    if (claim !== undefined) return this._begin(claim, id, core);
    this._refused.take(id);
    return this.unclaimed.add(id, core);
  }

  /** @param {string} id */
  _findFault(id) {
    if (id.length === 0 || id.length > MAX_ID_CHARACTERS) {
      const message = `a stream's id has 1 to ${MAX_ID_CHARACTERS} characters, not ${id.length}`;
      return new RpcError("INVALID_ARGUMENT", message);
    }
    const isUnderWay = this.unclaimed.has(id) || Boolean(this._claims.get(id)?.core);
    return isUnderWay ? new RpcError("ALREADY_EXISTS", `a stream ${JSON.stringify(id)} is under way`) : null;
  }

  /** @param {Incoming} incoming @param {string} id @param {StreamCore} core */
  _begin(incoming, id, core) {
    this._nameless.delete(incoming);
    this._claims.set(id, incoming);
    incoming.begin(id, core, this._gateOf(core.metadata[AFTER]));
  }

  /** What a stream has to wait for; nothing where the one before it is over, or never was. @param {string | undefined} before */
  _gateOf(before) {
    if (before === undefined || !(this.unclaimed.has(before) || this._claims.has(before))) return null;
    let gate = this._gates.get(before);
    if (gate === undefined) {
      let open = noop;
      const promise = new Promise((resolve) => (open = () => resolve(undefined)));
      gate = { promise, open };
      this._gates.set(before, gate);
    }
    return gate.promise;
  }

  /** @param {Incoming} incoming */
  _onOver(incoming) {
    this._nameless.delete(incoming);
    const { id } = incoming;
    if (id === null || this._claims.get(id) !== incoming) return;
    this._claims.delete(id);
    this._note(id);
  }

  /** @param {string} id */
  _note(id) {
    this._received.add(id, true);
    this._gates.get(id)?.open();
    this._gates.delete(id);
  }

  /** @param {string} id @param {StreamCore} core @param {RpcError} error */
  _refuseUnclaimed(id, core, error) {
    core.stop(error.code, error.message);
    this._refused.add(id, error);
    this._note(id);
  }

  /** @param {string} id */
  close(id) {
    const claim = this._claims.get(id);
    if (claim !== undefined) return claim.stop();
    const waiting = this.unclaimed.take(id);
    if (waiting !== null) {
      waiting[1].stop();
      return this._note(id);
    }
    if (!this._received.has(id)) throw badId("close", id, "the other side has none of this id");
    return undefined;
  }

  /** @param {ConnectionLost} error */
  lose(error) {
    this._lost = error;
    for (const incoming of [...this._claims.values(), ...this._nameless]) incoming.lose(error);
  }
}

/** A stream that we send, from its first item to its end. */
class Outgoing {
  /** @param {string} id @param {StreamCore} core @param {Source} source */
  constructor(id, core, source) {
    this._core = core;
    this._source = source;
    this._isSettled = false;
    /** @type {Promise<string>} */
    this.sent = new Promise((resolve, reject) => {
      this._resolve = () => resolve(id);
      this._reject = reject;
    });
    core.onCut = (how, error) => this._onCut(how, error);
  }

  /** @param {"reset" | "stopped" | "lost" | "failed"} how @param {unknown} error */
  _onCut(how, error) {
    if (how === "reset") return; // of the half that carries nothing; a peer that wants nothing of ours stops it
    this._source.close();
    if (how === "stopped" && /** @type {StreamStopped} */ (error).code === "OK") this._settle();
    else this._settle(closedError(error));
  }

  /** @param {unknown} [error] */
  _settle(error) {
    if (this._isSettled) return;
    this._isSettled = true;
    if (error === undefined) this._resolve?.();
    else this._reject?.(error);
    this._core.stop();
  }

  /** The receiver gets StreamReset, and sending ends. */
  abort() {
    this._source.close();
    this._core.reset("CANCELLED", "aborted");
    this._settle();
  }

  async run() {
    try {
      for (let item = await this._source.next(); !item.done; item = await this._source.next()) {
        if (this._isSettled) return;
        await this._core.send(item.value);
      }
      await this._core.end();
      this._settle();
    } catch (error) {
      if (this._isSettled) return;
      this._source.close();
      await this._core.end(statusOf(error)); // behind the items that were made
      this._settle(error);
    }
  }
}

// -- peers: two equals over one connection -----------------------------------------------------------------------------------

/**
 * @typedef {object} RequestOptions
 * @property {AbortSignal} [signal] cancels the call on the other side; what waits rejects with the signal's reason
 * @property {number} [timeout] milliseconds; the deadline travels with the call
 * @property {number} [priority] higher goes first, -128 to 127
 */

/**
 * @typedef {object} SendStreamOptions
 * @property {AbortSignal} [signal] abandons the stream
 * @property {number} [priority] higher goes first, -128 to 127
 * @property {boolean} [raw] items are bytes, and travel as they are
 */

/**
 * What a handler is given beside the data.
 *
 * @typedef {object} CallContext
 * @property {AbortSignal} signal aborts when the caller has cancelled, its deadline has passed, or the connection is lost
 */

/** @typedef {(data: any, context: CallContext) => unknown} PeerHandler */

/** One of two equals; made by `openPeer`. Either calls, answers, sends and receives streams. */
export class RpcPeer extends Endpoint {
  /** @type {Connection} */
  #connection;
  /** @type {IncomingStreams} */
  #incoming;
  /** @type {Map<string, Outgoing>} */
  #outgoing = new Map();
  /** @type {RecentIds<true>} */
  #sent = new RecentIds();
  /** @type {Map<string, PeerHandler>} */
  #methods = new Map();
  /** @type {PeerHandler | null} */
  #handler = null;

  /** Made by `openPeer`. @param {any} connection @param {any} options */
  constructor(connection, options) {
    super(connection);
    this.#connection = connection;
    this.#incoming = new IncomingStreams(options);
    // Not before whoever waits for this peer has declared what it answers.
    setTimeout(() => connection.handOver((/** @type {StreamCore} */ core) => this.#accept(core)));
    connection.closed.then(() => this.#incoming.lose(connection.lost));
  }

  // Answering.

  /**
   * Answer what no named method does; the last handler counts.
   *
   * @param {PeerHandler} handler takes a call's data, and returns or resolves to the answer. What it raises is the call's
   *   status: an `RpcError` as it is, anything else as INTERNAL
   */
  match(handler) {
    this.#handler = handler;
  }

  /**
   * Answer calls of a name: `{"method": name, "params": …}`.
   *
   * @param {string} name
   * @param {PeerHandler} handler takes the params, an empty object where there are none. One that returns an asynchronous
   *   iterable or a generator answers with the id of a stream, which its items are sent in
   */
  method(name, handler) {
    if (name === "" || this.#methods.has(name)) throw new TypeError(`a method's name is new and not empty, not ${JSON.stringify(name)}`);
    this.#methods.set(name, handler);
  }

  /** @param {StreamCore} core */
  #accept(core) {
    if (core.name === STREAM) return this.#incoming.accept(core);
    if (core.name === REQUEST || core.name === SEND) return void this.#serve(core);
    const reason = `peers open no stream ${JSON.stringify(core.name.slice(0, 64))}`;
    core.reset("UNIMPLEMENTED", reason);
    return core.stop("UNIMPLEMENTED", reason);
  }

  /** @param {StreamCore} core */
  async #serve(core) {
    const controller = new AbortController();
    core.onCut = (how, error) => {
      // Who only tells something does not wait for the end.
      const isLeft = how === "stopped" && core.name === SEND && /** @type {StreamStopped} */ (error).code === "OK";
      if (!isLeft) controller.abort(error);
      if (how === "reset") core.reset();
    };
    const { timeout } = core.options;
    const cancelTimer = timeout === undefined ? noop : after(timeout, () => {
      const late = new RpcError("DEADLINE_EXCEEDED", "the caller's deadline passed");
      controller.abort(late);
      core.end(statusOf(late));
    });
    try {
      const answer = await this.#answer(core, { signal: controller.signal });
      if (core.name === REQUEST) core.sendInput(encodeItem(answer ?? null, false));
      else core.end();
    } catch (error) {
      const status = statusOf(error);
      if (status.code === "INTERNAL" && !controller.signal.aborted) console.error(`${core.name} failed:`, error);
      core.end(status);
    }
    cancelTimer();
    core.stop();
  }

  /** @param {StreamCore} core @param {CallContext} context */
  async #answer(core, context) {
    const { value, done } = await core.next();
    if (done) throw new RpcError("INVALID_ARGUMENT", `${core.name} came without data`);
    const data = parseBytes(value);
    const name = typeof data?.method === "string" ? data.method : null;
    const method = name === null ? undefined : this.#methods.get(name);
    if (method !== undefined) {
      const result = await method(data.params ?? {}, context);
      return isRunOfItems(result) ? { streamId: this.#startQuietly(result) } : result;
    }
    if (this.#handler !== null) return this.#handler(data, context);
    const why = name === null ? 'the data names no method, as {"method": name} does' : `there is no method ${JSON.stringify(name.slice(0, 100))}`;
    throw new RpcError("UNIMPLEMENTED", why);
  }

  /** @param {any} items */
  #startQuietly(items) {
    const id = randomId();
    this.sendStream(items, id).catch(noop); // its receiver hears what goes wrong
    return id;
  }

  // Calling.

  /**
   * Call the other side.
   *
   * @template [T=any]
   * @param {unknown} data anything that JSON can say; a named method is called by `{"method": name, "params": …}`
   * @param {RequestOptions} [options]
   * @returns {Promise<{data: T}>} rejects with `RpcError`, `ConnectionLost`, or the signal's reason
   */
  async request(data, { signal, timeout, priority } = {}) {
    const payload = encodeItem(data, false);
    const core = new StreamCore(this.#connection, REQUEST, { signal, timeout, priority });
    core.begin();
    core.sendInput(payload);
    try {
      return { data: await onlyItem(core) };
    } catch (error) {
      throw closedError(error);
    } finally {
      core.leave();
    }
  }

  /**
   * Tell the other side something; nothing comes back, not even whether it was understood.
   *
   * @param {unknown} data as for `request`
   */
  async send(data) {
    const core = new StreamCore(this.#connection, SEND, {});
    core.begin();
    try {
      await core.send(data);
      await core.end();
      core.stop();
    } catch (error) {
      core.fail(error);
      throw closedError(error);
    }
  }

  // Streams.

  /**
   * Send a stream to its end.
   *
   * @param {Iterable<unknown> | AsyncIterable<unknown> | ReadableStream<unknown>} items
   * @param {string} [streamId] what the receiver asks for; one is made up by default
   * @param {SendStreamOptions} [options]
   * @returns {Promise<string>} the id, when everything was sent or the receiver wants no more. Rejects with `StreamStopped`
   *   where the receiver refused the stream, with `ConnectionLost`, the signal's reason, and what `items` raises
   */
  async sendStream(items, streamId, { signal, priority, raw = false } = {}) {
    const id = streamId === undefined ? randomId() : checkId(streamId);
    if (this.#outgoing.has(id)) throw badId("send", id, "one of this id is under way", "ALREADY_EXISTS");
    const source = new Source(items);
    const metadata = { [STREAM_ID]: id, ...(raw && { [CONTENT_TYPE]: BYTES_TYPE }) };
    const core = new StreamCore(this.#connection, STREAM, { signal, priority, raw, metadata });
    const outgoing = new Outgoing(id, core, source);
    this.#outgoing.set(id, outgoing);
    core.begin();
    outgoing.run();
    try {
      return await outgoing.sent;
    } finally {
      this.#outgoing.delete(id);
      this.#sent.add(id, true);
    }
  }

  /**
   * Claim a stream of the other side, before or after it begins.
   *
   * @template [T=any]
   * @param {string} [streamId] which; the next that nobody has claimed by default
   * @returns {[string | null, PeerStream<T>]} its id, null while it is not known which it will be (`begun` tells), and the stream
   */
  receiveStream(streamId) {
    const incoming = this.#incoming.claim(streamId ?? null);
    return [incoming.id, new PeerStream(incoming)];
  }

  /** Abandon a stream that this side sends: its receiver gets `StreamReset`. Too late is no fault. @param {string} streamId */
  abortStream(streamId) {
    const outgoing = this.#outgoing.get(streamId);
    if (outgoing !== undefined) outgoing.abort();
    else if (!this.#sent.has(streamId)) throw badId("abort", streamId, "none of ours has this id");
  }

  /** Tell the other side to stop sending; what was not taken is dropped. Too late is no fault. @param {string} streamId */
  closeReceivingStream(streamId) {
    this.#incoming.close(streamId);
  }

  /** Cancel what is under way, say goodbye and close. */
  close() {
    this.#incoming.unclaimed.clear();
    super.close();
  }
}

/** Whether a method answers with a stream. An array is a value. @param {any} result */
function isRunOfItems(result) {
  if (typeof result !== "object" || result === null) return false;
  return Symbol.asyncIterator in result || result instanceof ReadableStream || (Symbol.iterator in result && typeof result.next === "function");
}

// -- WebSockets ----------------------------------------------------------------------------------------------------------

/**
 * How another carrier is looked for: the n-th attempt comes after a random time between 0 and
 * `initialDelay * factor ** (n - 1)`, but no more than `maxDelay`. Where the browser says that the network is back, counting
 * begins anew.
 *
 * @typedef {object} ReconnectOptions
 * @property {number} [initialDelay] milliseconds at most before the first attempt
 * @property {number} [maxDelay] milliseconds at most before any
 * @property {number} [factor] how much longer the next one may take
 * @property {number} [maxAttempts] in a row; as many as fit into the session's age by default
 */

/** @type {Readonly<Required<ReconnectOptions>>} */
const DEFAULT_RECONNECT = Object.freeze({ initialDelay: 1_000, maxDelay: 30_000, factor: 2, maxAttempts: Infinity });

/**
 * @typedef {object} ConnectOptions
 * @property {typeof globalThis.WebSocket} [WebSocket] the class to use; the global one by default
 * @property {number} [windowItems] items of a stream that the server may send ahead of what was taken
 * @property {number} [windowBytes] bytes of a stream that the server may send ahead of what was taken
 * @property {number} [connectTimeout] milliseconds for the WebSocket and the server's hello
 * @property {number} [idleTimeout] milliseconds of silence after which the connection is lost; 0 for never
 * @property {number} [maxBufferedBytes] bytes in the WebSocket's buffer above which nothing is written to it
 * @property {Partial<Limits>} [limits] all other limits
 * @property {boolean | ResumeOptions} [resume] whether calls and streams outlive their WebSocket, where the server offers it,
 *   too; true for the defaults. Not by default, unless `reconnect` is given
 * @property {ReconnectOptions} [reconnect] how another WebSocket is looked for
 * @property {AbortSignal} [signal] gives up connecting, or closes the connection
 */

/**
 * Connect to a server.
 *
 * @param {string | URL} url `ws://` or `wss://`; `http://` and `https://` mean the same, and in a page it may be relative
 * @param {ConnectOptions} [options]
 * @returns {Promise<Client>} rejects with `ConnectionLost`, whose `cause` says who is to blame, or the signal's reason
 */
export async function connect(url, options = {}) {
  // Nothing here serves streams that the server opens, so it may open none.
  return new Client(await open(url, options, 0));
}

/**
 * Connect to a peer, of which either side calls the other. Declare what is answered before anything else is awaited: until
 * then nothing of the other side is looked at.
 *
 * @param {string | URL} url as for `connect`
 * @param {ConnectOptions & PeerOptions} [options]
 * @returns {Promise<RpcPeer>} rejects as `connect` does
 */
export async function openPeer(url, options = {}) {
  const { maxBufferedStreamBytes, maxUnclaimedStreams, unclaimedTimeout, ...rest } = options;
  const given = { maxBufferedStreamBytes, maxUnclaimedStreams, unclaimedTimeout };
  const set = checkNumbers("peers", DEFAULT_PEER, given);
  return new RpcPeer(await open(url, rest, rest.limits?.maxStreams ?? PEER_STREAMS), set);
}

/** @param {string | URL} url @param {ConnectOptions} options @param {number} maxStreams that the other side may open @returns {Promise<Connection>} */
async function open(url, options, maxStreams) {
  const { WebSocket: Socket = globalThis.WebSocket, connectTimeout = 10_000, signal } = options;
  if (Socket === undefined) throw new TypeError("there is no global WebSocket here: pass one as `WebSocket`");
  signal?.throwIfAborted();
  const href = webSocketUrl(url);
  const { windowItems, windowBytes, idleTimeout, limits, maxBufferedBytes = 131_072 } = options;
  const given = { windowItems, windowBytes, idleTimeout, handshakeTimeout: connectTimeout };
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  checkLimits({ ...DEFAULT_LIMITS, ...limits, ...set }); // before there is a socket that would have to be closed
  const { resume = options.reconnect !== undefined } = options;
  if (!resume && options.reconnect !== undefined) {
    throw new LocalProtocolError("can't reconnect without resume", { field: "reconnect" });
  }
  const session = checkNumbers("resume", DEFAULT_RESUME, resume === true ? {} : resume || {});
  const reconnect = checkNumbers("reconnect", DEFAULT_RECONNECT, options.reconnect ?? {});
  const made = { sessionId: randomId(), now: performance.now(), limits: { ...limits, ...set, maxStreams } };
  const machine = resume ? new Session({ ...made, maxRetainedBytes: session.maxRetainedBytes }) : new Machine(made);
  const connection = new Connection(href, machine, maxBufferedBytes);
  const dialler = new Dialler(connection, () => dial(Socket, href, connection), reconnect, session.maxSessionAge);
  const abort = () => connection.lose(new ConnectionLost(`the connection to ${href} was aborted`, signal?.reason));
  signal?.addEventListener("abort", abort, { once: true });
  connection.closed.then(() => signal?.removeEventListener("abort", abort));
  dialler.begin();
  await connection.ready;
  if (connection.lost !== null) throw signal?.aborted ? signal.reason : connection.lost;
  return connection;
}

/** What must not be smaller; anything else is at least 1. @type {Record<string, number>} */
const LEAST = {
  // A peer acknowledges after 32 KiB or 256 frames at the latest; less than a few times that would stop the stream.
  maxRetainedBytes: 131_072,
  maxSessionAge: 0,
};

/**
 * Numbers that users give, over the defaults.
 *
 * @template {Record<string, number>} T
 * @param {string} what @param {Readonly<T>} defaults @param {object} given
 * @returns {T}
 */
function checkNumbers(what, defaults, given) {
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  for (const [name, value] of Object.entries(set)) {
    if (!Object.hasOwn(defaults, name)) throw new LocalProtocolError(`${what} has no option ${name}`, { field: name });
    const least = LEAST[name] ?? 1;
    if (typeof value === "number" && value >= least) continue;
    throw new LocalProtocolError(`${name} is ${value}, not a number of at least ${least}`, { field: name });
  }
  return { ...defaults, ...set };
}

/** Brings carriers to a connection: the first one, and where it is resumed another one for each that is lost. */
class Dialler {
  /** @param {Connection} connection @param {() => void} dialOnce @param {Required<ReconnectOptions>} options @param {number} maxSessionAge */
  constructor(connection, dialOnce, options, maxSessionAge) {
    this._connection = connection;
    this._dial = dialOnce;
    this._options = options;
    this._maxSessionAge = maxSessionAge;
    this._resumes = -1;
    this._attempts = 0;
    this._cancelWait = noop;
    this._cancelAge = noop;
    this._isWaiting = false;
    this._onOnline = () => this._lookAtOnce();
  }

  begin() {
    this._connection.onDetached = () => this._look();
    if (this._connection.session !== null) globalThis.addEventListener?.("online", this._onOnline);
    this._connection.closed.then(() => this._end());
    this._dial();
  }

  _end() {
    this._cancelWait();
    this._cancelAge();
    globalThis.removeEventListener?.("online", this._onOnline);
  }

  /** A carrier was lost, be it that of a session that went on or one more attempt. */
  _look() {
    const { resumes } = /** @type {Session} */ (this._connection.session);
    if (resumes !== this._resumes) this._countAnew(resumes);
    const { initialDelay, maxDelay, factor, maxAttempts } = this._options;
    if (this._attempts >= maxAttempts) return this._connection.giveUp(`maxAttempts of ${maxAttempts} were made`);
    const most = Math.min(initialDelay * factor ** this._attempts, maxDelay);
    this._attempts += 1;
    this._isWaiting = true;
    this._cancelWait = after(Math.random() * most, () => {
      this._isWaiting = false;
      this._dial();
    });
  }

  /** @param {number} resumes */
  _countAnew(resumes) {
    this._resumes = resumes;
    this._attempts = 0;
    this._cancelAge();
    this._cancelAge = after(this._maxSessionAge, () => {
      const isResumed = this._connection.session?.resumes !== resumes;
      if (!isResumed) this._connection.giveUp(`maxSessionAge of ${this._maxSessionAge} ms has passed`);
    });
  }

  /** The network is back: what was waited for so far says nothing any more. */
  _lookAtOnce() {
    if (!this._isWaiting) return;
    this._cancelWait();
    this._attempts = 0;
    this._look();
  }
}

/** One WebSocket for a connection. @param {typeof globalThis.WebSocket} Socket @param {string} href @param {Connection} connection */
function dial(Socket, href, connection) {
  const socket = new Socket(href, [PROTOCOL]);
  socket.binaryType = "arraybuffer";
  const carrier = carrierOf(socket);
  connection.attach(carrier);
  listen(socket, carrier, connection);
}

/** @param {string | URL} url */
function webSocketUrl(url) {
  const absolute = new URL(url, globalThis.location?.href);
  absolute.protocol = { "http:": "ws:", "https:": "wss:" }[absolute.protocol] ?? absolute.protocol;
  return absolute.href;
}

/** @param {WebSocket} socket @returns {Carrier} */
function carrierOf(socket) {
  return {
    send: (bytes) => socket.send(/** @type {Uint8Array<ArrayBuffer>} */ (bytes)),
    bufferedBytes: () => socket.bufferedAmount,
    close(code, reason) {
      // RFC 6455 §5.5: a control frame carries at most 125 bytes, two of them the code.
      const words = encoder.encode(reason);
      let end = Math.min(words.length, 123);
      while (end > 0 && end < words.length && (words[end] & 0xc0) === 0x80) end -= 1;
      socket.close(code, strictDecoder.decode(words.subarray(0, end)));
    },
  };
}

/** @param {WebSocket} socket @param {Carrier} carrier @param {Connection} connection */
function listen(socket, carrier, connection) {
  /** @type {unknown} */
  let cause;
  let wasOpen = false;
  socket.addEventListener("open", () => {
    wasOpen = true;
    if (socket.protocol === PROTOCOL) return connection.opened(carrier);
    const message = `the peer chose the subprotocol ${JSON.stringify(socket.protocol)}, not ${PROTOCOL}`;
    return connection.failed(carrier, new RemoteProtocolError(message, { field: "subprotocol" }));
  });
  socket.addEventListener("message", ({ data }) => {
    if (data instanceof ArrayBuffer) return connection.received(carrier, new Uint8Array(data));
    return connection.lose(new RemoteProtocolError("the peer sent a text message", { field: "message" }));
  });
  socket.addEventListener("error", (event) => {
    cause = /** @type {{error?: unknown}} */ (event).error ?? cause;
    if (wasOpen || socket.readyState !== socket.CLOSED) return; // what was open is closed, too, and that says more
    connection.failed(carrier, new ConnectionLost(`can't connect to ${connection.peer}`, cause));
  });
  socket.addEventListener("close", ({ code, reason, wasClean }) => {
    const words = reason ? `${code}: ${reason}` : `${code}`;
    const how = wasClean ? `closed the connection (${words})` : `is gone: the connection broke (${words})`;
    connection.failed(carrier, new ConnectionLost(`${connection.peer} ${how}`, cause));
  });
}
