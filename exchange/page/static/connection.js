// The line to the page's process: documents in, requests out. It comes back by itself when it breaks.

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8000;

export class Connection {
  /** `onDocument` gets every document; `onState` "connecting", "open" or "lost". */
  constructor(onDocument, onState) {
    this.onDocument = onDocument;
    this.onState = onState;
    this.decoder = new TextDecoder();
    this.pauseMs = FIRST_PAUSE_MS;
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/live`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => {
      this.pauseMs = FIRST_PAUSE_MS;
      this.onState("open");
    };
    this.socket.onmessage = (event) => this.onDocument(JSON.parse(this.decoder.decode(event.data)));
    this.socket.onclose = () => {
      this.onState("lost");
      setTimeout(() => this.open(), this.pauseMs);
      this.pauseMs = Math.min(2 * this.pauseMs, LONGEST_PAUSE_MS);
    };
  }

  /** Send a request; false if there is no line. */
  send(request) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(request));
    return true;
  }
}
