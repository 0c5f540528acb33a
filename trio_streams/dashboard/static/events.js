// EventSource, with a reconnection that can be seen.
//
// A browser's own reconnection tells nobody how it goes, gives up for ever at an HTTP error, and starts a finite stream
// all over again. So every fault closes the source here, and a new one is opened a second later.

const RETRY_MS = 1000;
const SILENCE_MS = 8000;

// on: {item(value), state(name, message)}; states: connecting, live, lost, ended, error.
export function openEvents(url, on, {isSteady = false} = {}) {
  let source = null;
  let timer = 0;
  let watchdog = 0;
  let isClosed = false;

  function stop() {
    clearTimeout(timer);
    clearTimeout(watchdog);
    source?.close();
    source = null;
  }

  function lose() {
    stop();
    on.state("lost");
    timer = setTimeout(start, RETRY_MS);
  }

  function heard() {
    // A steady stream that falls silent is a server that went without a goodbye.
    if (isSteady) {
      clearTimeout(watchdog);
      watchdog = setTimeout(lose, SILENCE_MS);
    }
  }

  function finish(state, message) {
    stop();
    on.state(state, message);
  }

  function start() {
    if (isClosed) return;
    source = new EventSource(url);
    heard();
    source.onopen = () => on.state("live");
    source.onmessage = (event) => {
      heard();
      on.item(JSON.parse(event.data));
    };
    source.addEventListener("end", () => finish("ended"));
    source.addEventListener("error", (event) => {
      // The server's own event of that name has data; the browser's has none.
      if (event.data === undefined) lose();
      else finish("error", JSON.parse(event.data).message);
    });
  }

  on.state("connecting");
  start();
  return () => {
    isClosed = true;
    stop();
  };
}
