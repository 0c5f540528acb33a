// One WebSocket for all panels that need one, opened when the first of them does, and again when it is lost.

const RETRY_MS = 1000;

let pending = null;

async function open() {
  const {connect} = await import("./client.js");
  const client = await connect(new URL("..", location.href));
  client.closed.then(() => (pending = null));
  return client;
}

// The client of the connection that there is, or of a new one.
export function link() {
  pending ??= open().catch((error) => {
    pending = null;
    throw error;
  });
  return pending;
}

export const pause = () => new Promise((resolve) => setTimeout(resolve, RETRY_MS));
