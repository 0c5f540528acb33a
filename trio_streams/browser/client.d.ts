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
export function connect(url: string | URL, options?: ConnectOptions): Promise<Client>;
/**
 * Connect to a peer, of which either side calls the other. Declare what is answered before anything else is awaited: until
 * then nothing of the other side is looked at.
 *
 * @param {string | URL} url as for `connect`
 * @param {ConnectOptions & PeerOptions} [options]
 * @returns {Promise<RpcPeer>} rejects as `connect` does
 */
export function openPeer(url: string | URL, options?: ConnectOptions & PeerOptions): Promise<RpcPeer>;
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
/** The name of the dialect, which is the WebSocket's subprotocol. */
export const PROTOCOL: "trio-streams.v1";
/** Every code that a wire knows by its number. An application's own codes are names only. */
export const CODES: Readonly<{
    OK: 0;
    CANCELLED: 1;
    UNKNOWN: 2;
    INVALID_ARGUMENT: 3;
    DEADLINE_EXCEEDED: 4;
    NOT_FOUND: 5;
    ALREADY_EXISTS: 6;
    PERMISSION_DENIED: 7;
    RESOURCE_EXHAUSTED: 8;
    FAILED_PRECONDITION: 9;
    ABORTED: 10;
    OUT_OF_RANGE: 11;
    UNIMPLEMENTED: 12;
    INTERNAL: 13;
    UNAVAILABLE: 14;
    DATA_LOSS: 15;
    UNAUTHENTICATED: 16;
    PROTOCOL_ERROR: 32;
    FLOW_CONTROL_ERROR: 33;
    STREAM_LIMIT_ERROR: 34;
    MESSAGE_TOO_LARGE: 35;
    HANDSHAKE_TIMEOUT: 36;
    IDLE_TIMEOUT: 37;
}>;
/** The status that ended a call or a stream. */
export class RpcError extends Error {
    /**
     * @param {string} code the name of the code: one of `CODES`, or an application's own
     * @param {string} [message] for people
     * @param {unknown} [details] for programs: any JSON value
     */
    constructor(code: string, message?: string, details?: unknown);
    /** The name of the code. */
    code: string;
    /** For programs: any JSON value, or null. */
    details: unknown;
}
/** The peer abandoned its half of a stream: what was not yet taken is gone. */
export class StreamReset extends RpcError {
    /** @param {string} code @param {string} reason */
    constructor(code: string, reason: string);
}
/** The peer takes no more of our half: sending is pointless. */
export class StreamStopped extends RpcError {
    /** @param {string} code @param {string} reason */
    constructor(code: string, reason: string);
}
/** The connection is over, and with it every stream on it. `cause` says more, where there is more to say. */
export class ConnectionLost extends Error {
    /** @param {string} message @param {unknown} [cause] */
    constructor(message: string, cause?: unknown);
}
/** A payload is not JSON, or a value has no form in JSON. */
export class CodecError extends Error {
    /** @param {string} message @param {unknown} [cause] */
    constructor(message: string, cause?: unknown);
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
    constructor(message: string, { code, field, size, limit }?: Fault);
    /** What the peer is told. */
    code: string;
    /** The offending field or limit; empty where the order of events is at fault. */
    field: string;
    /** The offending value's size or number, where there is one. */
    size: number | undefined;
    /** The limit that it passed, where there is one. */
    limit: number | undefined;
}
/** You asked for something that the state or a limit forbids; nothing was sent and nothing has changed. */
export class LocalProtocolError extends ProtocolError {
}
/** The peer did something that the protocol or a limit forbids. */
export class RemoteProtocolError extends ProtocolError {
}
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
export const DEFAULT_LIMITS: Readonly<Limits>;
/** The machine and its wire, for tests and for other carriers. Not a part of the interface: it may change at any time. @type {any} */
export const internals: any;
/**
 * Items from the server; an asynchronous iterator. Leaving its loop cancels the handler. An error that ended the stream is
 * raised behind the items that came before it.
 *
 * @template [T=any]
 */
export class ReceiveStream<T = any> {
    /** Made by a client. @param {any} core */
    constructor(core: any);
    /** What was asked for. */
    get name(): string;
    /** String pairs that came with the end; empty before. */
    get trailers(): Record<string, string>;
    /** The next item. A loop over the stream calls it; leaving the loop lets go of the stream, this does not. @returns {Promise<IteratorResult<T, undefined>>} */
    next(): Promise<IteratorResult<T, undefined>>;
    /** Let go of the stream: the end of our half, and STOP for the peer's. A loop that is left calls it. @returns {Promise<IteratorReturnResult<undefined>>} */
    return(): Promise<IteratorReturnResult<undefined>>;
    /** The items in arrays, as many as have come together: the fast way to read many small ones. @returns {AsyncIterableIterator<T[]>} */
    runs(): AsyncIterableIterator<T[]>;
    /** The same items as a `ReadableStream` that takes no item before it is asked for one. @returns {ReadableStream<T>} */
    get readable(): ReadableStream<T>;
    /** The metadata that came before the first item; empty where there was none. */
    header(): Promise<Record<string, string>>;
    /** Refuse more items; what has not been taken is dropped. @param {string} [code] @param {string} [reason] */
    stop(code?: string, reason?: string): Promise<void>;
    /** Abandon the whole stream: the handler is cancelled. @param {string} [reason] */
    cancel(reason?: string): Promise<void>;
    /** A snapshot of both halves. @returns {StreamStatistics} */
    statistics(): StreamStatistics;
    /** @returns {this} */
    [Symbol.asyncIterator](): this;
    #private;
}
/**
 * Items in both directions. Leaving a loop over it lets go of both; use `next` to take some items and go on sending.
 *
 * @template [S=any]
 * @template [T=any]
 * @extends {ReceiveStream<T>}
 */
export class BidiStream<S = any, T = any> extends ReceiveStream<T> {
    /** Made by a client. @param {any} core */
    constructor(core: any);
    /**
     * Send an item. Await it: it resolves when the item was queued within the peer's credit, which is the backpressure.
     *
     * @param {S} value
     * @returns {Promise<void>} rejects with `StreamStopped` where the peer takes no more
     */
    send(value: S): Promise<void>;
    /** Finish our half, behind its items. @returns {Promise<void>} */
    end(): Promise<void>;
    /** Abandon our half: items that were not delivered are dropped. @param {string} [code] @param {string} [reason] */
    reset(code?: string, reason?: string): Promise<void>;
    /** Our half as a `WritableStream`. @returns {WritableStream<S>} */
    get writable(): WritableStream<S>;
    #private;
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
/** What clients and peers have in common: the connection under them. */
export class Endpoint {
    /** @param {any} connection */
    constructor(connection: any);
    /**
     * Resolves when the connection is over: with why it was lost, or with null where it was closed here. It never rejects.
     *
     * @readonly
     * @type {Promise<ConnectionLost | null>}
     */
    readonly closed: Promise<ConnectionLost | null>;
    /** Whether streams can be opened and used; while the connection is detached they wait. */
    get isOpen(): boolean;
    /** Whether the connection has a carrier, waits for another one, or is over. */
    get state(): ConnectionState;
    set onstatechange(listener: ((change: StateChange) => void) | null);
    /** Called with each change of `state`; null for nobody. */
    get onstatechange(): ((change: StateChange) => void) | null;
    /** A snapshot of the connection. @returns {ConnectionStatistics} */
    statistics(): ConnectionStatistics;
    /** Measure the round trip; `statistics` shows it when the answer is there. */
    ping(): void;
    /** Cancel what is under way, say goodbye and close. While the connection is detached there is nobody to say it to. */
    close(): void;
    #private;
}
/** Calls procedures on one connection; made by `connect`. */
export class Client extends Endpoint {
    /**
     * Call a procedure: one input, one result.
     *
     * @template [T=any]
     * @param {string} name
     * @param {unknown} [input] anything that JSON can say; undefined for none
     * @param {StreamOptions} [options]
     * @returns {Promise<T>} rejects with `RpcError`, `ConnectionLost`, or the signal's reason
     */
    call<T = any>(name: string, input?: unknown, options?: StreamOptions): Promise<T>;
    /**
     * Start a server stream. It runs from now on, as far as the windows let it; leaving a loop over it cancels it.
     *
     * @template [T=any]
     * @param {string} name
     * @param {unknown} [input] as for `call`
     * @param {StreamOptions} [options]
     * @returns {ReceiveStream<T>}
     */
    stream<T = any>(name: string, input?: unknown, options?: StreamOptions): ReceiveStream<T>;
    /**
     * Send every item, take one result. The items are not read to their end if the handler answers before.
     *
     * @template [T=any]
     * @param {string} name
     * @param {Iterable<unknown> | AsyncIterable<unknown> | ReadableStream<unknown>} items
     * @param {StreamOptions} [options]
     * @returns {Promise<T>} rejects as `call` does, and with what `items` raises
     */
    upload<T = any>(name: string, items: Iterable<unknown> | AsyncIterable<unknown> | ReadableStream<unknown>, options?: StreamOptions): Promise<T>;
    /**
     * Start a stream in both directions.
     *
     * @template [S=any]
     * @template [T=any]
     * @param {string} name
     * @param {StreamOptions} [options]
     * @returns {BidiStream<S, T>}
     */
    bidi<S = any, T = any>(name: string, options?: StreamOptions): BidiStream<S, T>;
    #private;
}
/**
 * A stream that the other side sends; an asynchronous iterator. Leaving its loop tells the sender to stop.
 *
 * @template [T=any]
 * @extends {ReceiveStream<T>}
 */
export class PeerStream<T = any> extends ReceiveStream<T> {
    /** The id that both sides know it by; null while it is not known which stream this will be. */
    get id(): string | null;
    /** Resolves with the id once the other side has begun the stream; rejects where it never will. */
    get begun(): Promise<string>;
    #private;
}
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
    /** Made by `openPeer`. @param {any} connection @param {any} options */
    constructor(connection: any, options: any);
    /**
     * Answer what no named method does; the last handler counts.
     *
     * @param {PeerHandler} handler takes a call's data, and returns or resolves to the answer. What it raises is the call's
     *   status: an `RpcError` as it is, anything else as INTERNAL
     */
    match(handler: PeerHandler): void;
    /**
     * Answer calls of a name: `{"method": name, "params": …}`.
     *
     * @param {string} name
     * @param {PeerHandler} handler takes the params, an empty object where there are none. One that returns an asynchronous
     *   iterable or a generator answers with the id of a stream, which its items are sent in
     */
    method(name: string, handler: PeerHandler): void;
    /**
     * Call the other side.
     *
     * @template [T=any]
     * @param {unknown} data anything that JSON can say; a named method is called by `{"method": name, "params": …}`
     * @param {RequestOptions} [options]
     * @returns {Promise<{data: T}>} rejects with `RpcError`, `ConnectionLost`, or the signal's reason
     */
    request<T = any>(data: unknown, { signal, timeout, priority }?: RequestOptions): Promise<{
        data: T;
    }>;
    /**
     * Tell the other side something; nothing comes back, not even whether it was understood.
     *
     * @param {unknown} data as for `request`
     */
    send(data: unknown): Promise<void>;
    /**
     * Send a stream to its end.
     *
     * @param {Iterable<unknown> | AsyncIterable<unknown> | ReadableStream<unknown>} items
     * @param {string} [streamId] what the receiver asks for; one is made up by default
     * @param {SendStreamOptions} [options]
     * @returns {Promise<string>} the id, when everything was sent or the receiver wants no more. Rejects with `StreamStopped`
     *   where the receiver refused the stream, with `ConnectionLost`, the signal's reason, and what `items` raises
     */
    sendStream(items: Iterable<unknown> | AsyncIterable<unknown> | ReadableStream<unknown>, streamId?: string, { signal, priority, raw }?: SendStreamOptions): Promise<string>;
    /**
     * Claim a stream of the other side, before or after it begins.
     *
     * @template [T=any]
     * @param {string} [streamId] which; the next that nobody has claimed by default
     * @returns {[string | null, PeerStream<T>]} its id, null while it is not known which it will be (`begun` tells), and the stream
     */
    receiveStream<T = any>(streamId?: string): [string | null, PeerStream<T>];
    /** Abandon a stream that this side sends: its receiver gets `StreamReset`. Too late is no fault. @param {string} streamId */
    abortStream(streamId: string): void;
    /** Tell the other side to stop sending; what was not taken is dropped. Too late is no fault. @param {string} streamId */
    closeReceivingStream(streamId: string): void;
    #private;
}
export type ConnectOptions = {
    /**
     * the class to use; the global one by default
     */
    WebSocket?: {
        new (url: string | URL, protocols?: string | string[]): WebSocket;
        prototype: WebSocket;
        readonly CONNECTING: 0;
        readonly OPEN: 1;
        readonly CLOSING: 2;
        readonly CLOSED: 3;
    } | undefined;
    /**
     * items of a stream that the server may send ahead of what was taken
     */
    windowItems?: number | undefined;
    /**
     * bytes of a stream that the server may send ahead of what was taken
     */
    windowBytes?: number | undefined;
    /**
     * milliseconds for the WebSocket and the server's hello
     */
    connectTimeout?: number | undefined;
    /**
     * milliseconds of silence after which the connection is lost; 0 for never
     */
    idleTimeout?: number | undefined;
    /**
     * bytes in the WebSocket's buffer above which nothing is written to it
     */
    maxBufferedBytes?: number | undefined;
    /**
     * all other limits
     */
    limits?: Partial<Limits> | undefined;
    /**
     * whether calls and streams outlive their WebSocket, where the server offers it,
     * too; true for the defaults. Not by default, unless `reconnect` is given
     */
    resume?: boolean | ResumeOptions | undefined;
    /**
     * how another WebSocket is looked for
     */
    reconnect?: ReconnectOptions | undefined;
    /**
     * gives up connecting, or closes the connection
     */
    signal?: AbortSignal | undefined;
};
/**
 * What a protocol's rule was broken with.
 */
export type Fault = {
    /**
     * what to tell the peer; PROTOCOL_ERROR by default
     */
    code?: string | undefined;
    /**
     * the offending field or limit
     */
    field?: string | undefined;
    /**
     * the offending value's size or number
     */
    size?: number | undefined;
    /**
     * the limit that it passed
     */
    limit?: number | undefined;
};
/**
 * What each side says first; see `trio_streams.core.records.Hello`.
 */
export type Hello = {
    session_id: string;
    frames_received: number;
    window_items: number;
    window_bytes: number;
    connection_bytes: number;
    max_streams: number;
    max_item_bytes: number;
    idle_timeout_ms: number;
    agent: string;
    features: string[];
};
/**
 * A frame as it was decoded.
 */
export type Frame = {
    /**
     * its type's number
     */
    kind: number;
    /**
     * its stream; 0 is the connection
     */
    id: number;
    /**
     * whole items
     */
    run?: Run | undefined;
    /**
     * a piece of a large item; what a ping says
     */
    data?: Uint8Array<ArrayBufferLike> | undefined;
    /**
     * that item's length, with its first piece only
     */
    total?: number | undefined;
    /**
     * of RESET, STOP and GOAWAY
     */
    code?: string | undefined;
    /**
     * of the same
     */
    reason?: string | undefined;
    /**
     * the first number of CREDIT, PONG and ACK, and GOAWAY's stream
     */
    count?: number | undefined;
    /**
     * the second one of CREDIT
     */
    bytes?: number | undefined;
    /**
     * what travels as JSON
     */
    record?: any;
    /**
     * what is wrong with the input; the last frame of all
     */
    error?: RemoteProtocolError | undefined;
};
/**
 * The state of one direction. Closing: the end is known, and what came before it still drains.
 */
export type HalfState = "open" | "closing" | "closed" | "errored";
/**
 * Limits and timeouts of one connection.
 */
export type Limits = {
    /**
     * items of one stream that the peer may send ahead of what was taken
     */
    windowItems: number;
    /**
     * bytes of one stream, an item at its length and 64; the item that crosses it is taken
     */
    windowBytes: number;
    /**
     * bytes that all streams together may hold unread
     */
    connectionBytes: number;
    /**
     * streams that the peer may have open at once
     */
    maxStreams: number;
    /**
     * the largest item, in both directions
     */
    maxItemBytes: number;
    /**
     * bytes queued before senders wait
     */
    maxSendBufferBytes: number;
    /**
     * bytes of answers that we may come to owe a peer that reads nothing
     */
    maxControlBytes: number;
    /**
     * milliseconds for the peer's hello
     */
    handshakeTimeout: number;
    /**
     * milliseconds of silence after which the connection is lost, 0 for never; a ping goes out
     * at half of it
     */
    idleTimeout: number;
};
/**
 * What a machine tells: `greeted`, `opened`, `headed`, `received`, `ended`, `reset`, `stopped`, `writable`,
 * `streams-allowed`, `went-away`, `failed`, and of a session `resumed` and `carrier-failed`.
 */
export type MachineEvent = {
    type: string;
    /**
     * the stream; 0 for the connection
     */
    id: number;
    /**
     * of `received`
     */
    run?: Run | undefined;
    /**
     * of `greeted`, `opened`, `headed` and `ended`
     */
    record?: any;
    /**
     * of `reset`, `stopped` and `went-away`
     */
    code?: string | undefined;
    /**
     * of the same
     */
    reason?: string | undefined;
    /**
     * of `failed`, which is the last one, and of `carrier-failed`
     */
    error?: ProtocolError | undefined;
};
/**
 * Limits of a session.
 */
export type ResumeOptions = {
    /**
     * of what was written and not acknowledged, a write at its length and 64; while so much
     * is retained, senders wait
     */
    maxRetainedBytes?: number | undefined;
    /**
     * milliseconds after the loss of a carrier in which another one has to take its place
     */
    maxSessionAge?: number | undefined;
};
export type StreamOptions = {
    /**
     * cancels; what waits rejects with the signal's reason
     */
    signal?: AbortSignal | undefined;
    /**
     * for the handler
     */
    metadata?: Record<string, string> | undefined;
    /**
     * milliseconds; the deadline travels to the handler
     */
    timeout?: number | undefined;
    /**
     * higher goes first, -128 to 127
     */
    priority?: number | undefined;
    /**
     * items that the peer may send ahead of what was taken
     */
    windowItems?: number | undefined;
    /**
     * bytes that the peer may send ahead of what was taken
     */
    windowBytes?: number | undefined;
    /**
     * items come as `Uint8Array`, and bytes are sent as they are, instead of JSON
     */
    raw?: boolean | undefined;
};
/**
 * A snapshot of one stream.
 */
export type StreamStatistics = {
    /**
     * its number on the connection; 0 while it waits to be opened
     */
    id: number;
    name: string;
    sendState: HalfState;
    receiveState: HalfState;
    /**
     * what the peer may send ahead of what was taken here
     */
    windowItems: number;
    windowBytes: number;
    /**
     * what we may send before the peer grants more
     */
    creditItems: number;
    creditBytes: number;
    /**
     * what arrived and was not taken
     */
    bufferedItems: number;
    /**
     * the same, an item at its length and 64
     */
    bufferedBytes: number;
    /**
     * what waits to be written
     */
    queuedItems: number;
    queuedBytes: number;
    /**
     * calls of `send` that wait for credit
     */
    waitingSends: number;
    /**
     * calls of `next` that wait for an item
     */
    waitingReceives: number;
    itemsSent: number;
    itemsReceived: number;
    bytesSent: number;
    bytesReceived: number;
};
export type Status = {
    code: string;
    message?: string;
    details?: unknown;
};
export type Sending = {
    payload: Uint8Array | null;
    status?: Status;
    resolve: () => void;
    reject: (error: unknown) => void;
};
export type Waiting = {
    take: () => any;
    resolve: (result: any) => void;
    reject: (error: unknown) => void;
};
/**
 * What carries a connection's bytes, such as a WebSocket.
 */
export type Carrier = {
    send: (bytes: Uint8Array) => void;
    close: (code: number, reason: string) => void;
    /**
     * what was sent and has not left
     */
    bufferedBytes: () => number;
};
/**
 * `attached`: there is a carrier, and streams go on. `detached`: it was lost, and another one is looked for; streams and
 * calls wait. `closed`: it is over.
 */
export type ConnectionState = "attached" | "detached" | "closed";
/**
 * What has become of a connection, for people.
 */
export type StateChange = {
    state: ConnectionState;
    /**
     * how often the session went on with another carrier
     */
    resumes: number;
    /**
     * of `detached` and `closed`: why the carrier was lost, where it was not closed here
     */
    cause?: unknown;
};
/**
 * A snapshot of a connection.
 */
export type ConnectionStatistics = {
    peer: string;
    isOpen: boolean;
    state: ConnectionState;
    /**
     * whether another carrier may take the place of this one: both sides offer it
     */
    isResumable: boolean;
    /**
     * how often that has happened
     */
    resumes: number;
    /**
     * what is kept for it: written and not acknowledged
     */
    retainedBytes: number;
    /**
     * those that are alive
     */
    streams: number;
    /**
     * all that there ever were
     */
    streamsOpened: number;
    /**
     * those that the peer has not yet allowed
     */
    streamsWaiting: number;
    /**
     * what waits in the machine, an item at its length and 64
     */
    queuedBytes: number;
    /**
     * what arrived and was not taken, counted likewise
     */
    unreadBytes: number;
    bytesSent: number;
    bytesReceived: number;
    /**
     * milliseconds that the last ping took
     */
    roundTrip: number | null;
};
/**
 * Limits of a peer's streams. Past one of them a stream is refused, with an error at both ends; an item is never dropped alone.
 */
export type PeerOptions = {
    /**
     * bytes of items, each at its length and 64, in streams that nobody has claimed yet
     */
    maxBufferedStreamBytes?: number | undefined;
    /**
     * streams that nobody has claimed yet
     */
    maxUnclaimedStreams?: number | undefined;
    /**
     * milliseconds that such a stream waits
     */
    unclaimedTimeout?: number | undefined;
};
export type RequestOptions = {
    /**
     * cancels the call on the other side; what waits rejects with the signal's reason
     */
    signal?: AbortSignal | undefined;
    /**
     * milliseconds; the deadline travels with the call
     */
    timeout?: number | undefined;
    /**
     * higher goes first, -128 to 127
     */
    priority?: number | undefined;
};
export type SendStreamOptions = {
    /**
     * abandons the stream
     */
    signal?: AbortSignal | undefined;
    /**
     * higher goes first, -128 to 127
     */
    priority?: number | undefined;
    /**
     * items are bytes, and travel as they are
     */
    raw?: boolean | undefined;
};
/**
 * What a handler is given beside the data.
 */
export type CallContext = {
    /**
     * aborts when the caller has cancelled, its deadline has passed, or the connection is lost
     */
    signal: AbortSignal;
};
export type PeerHandler = (data: any, context: CallContext) => unknown;
/**
 * How another carrier is looked for: the n-th attempt comes after a random time between 0 and
 * `initialDelay * factor ** (n - 1)`, but no more than `maxDelay`. Where the browser says that the network is back, counting
 * begins anew.
 */
export type ReconnectOptions = {
    /**
     * milliseconds at most before the first attempt
     */
    initialDelay?: number | undefined;
    /**
     * milliseconds at most before any
     */
    maxDelay?: number | undefined;
    /**
     * how much longer the next one may take
     */
    factor?: number | undefined;
    /**
     * in a row; as many as fit into the session's age by default
     */
    maxAttempts?: number | undefined;
};
/** Items of one stream as they came: one payload, and where in it each of them begins and ends. */
declare class Run {
    /** @param {Uint8Array} data @param {ArrayLike<number>} bounds one more than items */
    constructor(data: Uint8Array, bounds: ArrayLike<number>);
    /** @readonly */
    readonly data: Uint8Array<ArrayBufferLike>;
    /** @readonly */
    readonly bounds: ArrayLike<number>;
    /** How many items. @readonly */
    readonly count: number;
    /** What the items cost in credit. */
    get cost(): number;
    /** What one item costs in credit. @param {number} index */
    costOf(index: number): number;
    /** One item's bytes, in a buffer of their own. @param {number} index */
    bytes(index: number): Uint8Array<ArrayBuffer>;
    /** One item's value. @param {number} index @returns {any} */
    value(index: number): any;
    #private;
}
export {};
