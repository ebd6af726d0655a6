// One conversation at a time over /ws/chat: a socket for as long as requests run on it, and for the next.

const CODES = {
  4401: "key",
  1013: "The gateway is not running in this process. Start it with “make run”.",
  1011: "The gateway failed; its log says why.",
  1009: "The conversation is too long for one message. Begin a new one.",
};
const LOST = "The connection to the gateway was lost. Is it running? Send again to try anew.";

export class Chat {
  /** `on` has queued(place), part(object), ended(), failed({ text, status, key }). */
  constructor(on) {
    this.on = on;
    this.socket = null;
    this.key = "";
    this.running = null;
  }

  send(body, key) {
    this.running = `play-${crypto.getRandomValues(new Uint32Array(3)).join("-")}`;
    const message = JSON.stringify({ ...body, id: this.running, request_id: this.running });
    const usable = this.socket !== null && this.socket.readyState === WebSocket.OPEN && this.key === key;
    if (usable) this.socket.send(message);
    else this.open(key, message);
    return this.running;
  }

  open(key, message) {
    if (this.socket) this.socket.onclose = null;
    if (this.socket) this.socket.close();
    const address = new URL("/ws/chat", window.location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address, ["sollol"]);
    this.socket = socket;
    this.key = key;
    socket.onopen = () => {
      if (key) socket.send(JSON.stringify({ type: "auth", key }));
      socket.send(message);
    };
    socket.onmessage = ({ data }) => this.take(JSON.parse(data));
    socket.onclose = ({ code }) => {
      if (this.socket === socket) this.socket = null;
      if (this.running === null) return;
      this.running = null;
      const why = CODES[code] || LOST;
      this.on.failed(why === "key" ? { key: true } : { text: why });
    };
  }

  stop() {
    if (this.running !== null && this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type: "cancel", id: this.running }));
  }

  take(message) {
    if (message.id !== this.running) return;
    if (message.error !== undefined) {
      this.running = null;
      this.on.failed({ text: message.error, status: message.status, key: message.status === 401 });
    } else if (message.type === "queued") {
      this.on.queued(message);
    } else if (message.type === "cancelled") {
      this.running = null;
      this.on.ended(true);
    } else {
      if (message.done) this.running = null;
      this.on.part(message);
      if (message.done) this.on.ended(false);
    }
  }
}
