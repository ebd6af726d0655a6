// The way to the gateway: a WebSocket, tried again and again when it is lost, and polling meanwhile.

const FORBIDDEN = 4403;
const RETRY_MS = [500, 1000, 2000, 5000, 10000, 20000];
const SILENT_MS = 25000; // the gateway speaks at least every 10 s
const POLL_MS = 5000;
const FAILED_BEFORE_POLLING = 2;

/** Calls `take(message)`, which returns false to have everything told anew, and `tell(state, text)` when that changes. */
export function connect({ socketPath, statePath, loginPath }, take, tell) {
  let failures = 0;
  let lastWord = Date.now();
  let socket = null;
  let polling = null;
  let nextTry = 0;
  let retry = null;
  let away = false; // the last poll got no answer

  function login() {
    tell("lost", "logged out");
    window.location.assign(`${loginPath}?next=${encodeURIComponent(window.location.pathname)}`);
  }

  function stopPolling() {
    clearTimeout(polling);
    polling = null;
  }

  async function poll() {
    polling = setTimeout(poll, POLL_MS);
    try {
      const answer = await fetch(statePath, { headers: { accept: "application/json" }, signal: AbortSignal.timeout(POLL_MS) });
      if (answer.status === 401) return login();
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      const message = await answer.json();
      if (polling === null) return;
      take(message);
      tell("polling", "no WebSocket; asking every 5 s");
      if (away && nextTry > 0) {
        clearTimeout(retry); // it is back: no need to wait for the next try
        open();
      }
      away = false;
    } catch {
      away = true;
      if (polling !== null) tell("lost", "the gateway does not answer; trying again every 5 s");
    }
  }

  function countDown() {
    if (polling !== null || nextTry === 0) return;
    const seconds = Math.ceil((nextTry - Date.now()) / 1000);
    tell("lost", seconds > 1 ? `connection lost; trying again in ${seconds} s` : "connection lost; trying again");
  }

  function open() {
    nextTry = 0;
    const address = new URL(socketPath, window.location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(address);
    socket.onmessage = ({ data }) => {
      failures = 0;
      lastWord = Date.now();
      stopPolling();
      if (take(JSON.parse(data)) === false) socket.close();
      else tell("live", "live");
    };
    socket.onclose = ({ code }) => {
      if (code === FORBIDDEN) return login();
      const wait = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
      failures += 1;
      nextTry = Date.now() + wait;
      countDown();
      if (failures >= FAILED_BEFORE_POLLING && polling === null) poll();
      retry = setTimeout(open, wait);
    };
    lastWord = Date.now();
  }

  setInterval(() => {
    countDown();
    if (socket.readyState <= WebSocket.OPEN && Date.now() - lastWord > SILENT_MS) socket.close();
  }, 1000);
  open();
}
