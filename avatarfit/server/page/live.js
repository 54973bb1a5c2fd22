// A session of the server: opened, watched over WebRTC, and connected again when it is lost.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
const CONNECT_MS = 10000;
const GATHER_MS = 1500;
const LOST_AFTER_MS = 4000;
const ENDS_SECONDS = 3;

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export class Server {
  /** Requests under /api, with the token where there is one. */
  constructor(token) {
    this.token = token;
  }

  async ask(method, path, body, type = "application/json") {
    const headers = {};
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (body !== undefined) headers["Content-Type"] = type;
    const sent = type === "application/json" && body !== undefined ? JSON.stringify(body) : body;
    let answer;
    try {
      answer = await fetch(`/api/${path}`, { method, headers, body: sent });
    } catch {
      throw new Problem(0, "The server does not answer.");
    }
    const told = answer.status === 204 ? null : await answer.json().catch(() => null);
    if (!answer.ok) throw new Problem(answer.status, told?.detail ?? `The server answered ${answer.status}.`);
    return told;
  }

  leave(path) {
    // It is not waited for: the page is going.
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    fetch(`/api/${path}`, { method: "DELETE", headers, keepalive: true }).catch(() => {});
  }

  socket(path, asked = {}) {
    const query = new URLSearchParams({ ...asked, ...(this.token && { token: this.token }) });
    return new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/${path}?${query}`);
  }
}

export class Live extends EventTarget {
  /**
   * Events: "status" (detail: {status, sentence}; status is connecting, live, lost, full or token), "session" (its
   * SessionInfo), "picture" (its packing), and what the session itself tells, by its type.
   */
  constructor(server, video, { avatar = null, alpha = false, session = null } = {}) {
    super();
    this.server = server;
    this.video = video;
    this.wish = { avatar, alpha };
    this.given = session;
    this.session = null;
    this.peer = null;
    this.track = null;
    this.microphone = "off";
    this.wake = () => {};
    this.end = () => {};
    this.changing = false;
    this.reason = null;
  }

  /** Until the page goes. */
  async run() {
    let wait = FIRST_WAIT_MS;
    for (;;) {
      this.changing = false;
      this.reason = null;
      this.#tell("status", { status: "connecting" });
      try {
        await this.#connect();
        wait = FIRST_WAIT_MS;
        this.#tell("status", { status: "live" });
        await this.ended;
        if (!this.changing) this.#tell("status", { status: "lost", sentence: this.reason ?? "The connection was lost." });
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        if (problem.status === 404) this.session = null;
        const status = { 401: "token", 503: "full" }[problem.status] ?? "lost";
        this.#tell("status", { status, sentence: problem.message });
      }
      this.#hangUp();
      if (!this.changing) {
        await new Promise((resolve) => { this.wake = resolve; setTimeout(resolve, wait); });
        wait = Math.min(2 * wait, LONGEST_WAIT_MS);
      }
    }
  }

  /** Tries at once rather than later. */
  again() {
    this.wake();
  }

  /** Another person, or with or without alpha: another session. */
  async change(wish) {
    Object.assign(this.wish, wish);
    this.changing = true;
    // First it ends: a server that is full has room then.
    if (this.session) await this.server.ask("DELETE", `sessions/${this.session.id}`).catch(() => {});
    this.session = null;
    this.end();
    this.wake();
  }

  /** The page is going: its session ends for all who watch it; of somebody else's only the connection. */
  close() {
    if (!this.session) return;
    const path = `sessions/${this.session.id}`;
    if (!this.given) this.server.leave(path);
    else if (this.peerName) this.server.leave(`${path}/peers/${this.peerName}`);
  }

  /** Something of the session's own address. */
  ask(method, path, body, type) {
    if (!this.session) return Promise.reject(new Problem(0, "There is no session yet."));
    return this.server.ask(method, `sessions/${this.session.id}/${path}`, body, type);
  }

  /** Sends a microphone's track, or none, for what is said: speak, hear or off. */
  async speakInto(track, microphone) {
    this.track = track;
    this.microphone = microphone;
    if (!this.peer) return;
    await this.sender.replaceTrack(track);
    if (this.peerName) await this.ask("PATCH", `peers/${this.peerName}`, { microphone });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  async #connect() {
    if (!this.session) {
      this.session = this.given
        ? await this.server.ask("GET", `sessions/${encodeURIComponent(this.given)}`)
        : await this.server.ask("POST", "sessions", this.wish);
    } else {
      this.session = await this.server.ask("GET", `sessions/${this.session.id}`);
    }
    this.#tell("session", this.session);
    this.ended = new Promise((resolve) => { this.end = resolve; });
    this.#listen();
    await this.#dial();
  }

  #listen() {
    // Its own session ends soon after it, however it ends; somebody else's does not.
    const asked = this.given ? {} : { ends: ENDS_SECONDS };
    const socket = this.server.socket(`sessions/${this.session.id}/events`, asked);
    this.events = socket;
    socket.onmessage = (message) => {
      const told = JSON.parse(message.data);
      if (socket === this.events && ["closed", "problem"].includes(told.type)) {
        if (told.type === "closed") this.session = null;
        this.reason = told.reason ?? told.detail;
      }
      this.#tell(told.type, told);
    };
    socket.onclose = () => { if (socket === this.events) this.end(); };
  }

  async #dial() {
    const peer = new RTCPeerConnection({ iceServers: [] });
    this.peer = peer;
    peer.ontrack = ({ receiver, streams }) => {
      // Nothing is held back for smoothness: this is a conversation.
      receiver.jitterBufferTarget = 0;
      if (this.video.srcObject !== streams[0]) this.video.srcObject = streams[0];
    };
    peer.addTransceiver("video", { direction: "recvonly" });
    this.sender = peer.addTransceiver("audio", { direction: "sendrecv" }).sender;
    if (this.track) await this.sender.replaceTrack(this.track);
    await peer.setLocalDescription();
    await gathered(peer);
    const answer = await this.ask("POST", "offer", { sdp: peer.localDescription.sdp, microphone: this.microphone });
    this.peerName = answer.peer;
    this.#tell("picture", answer.picture);
    await peer.setRemoteDescription({ type: "answer", sdp: shortPackets(answer.sdp) });
    await connected(peer);
    let timer = null;
    peer.onconnectionstatechange = () => {
      clearTimeout(timer);
      if (["failed", "closed"].includes(peer.connectionState)) this.end();
      if (peer.connectionState === "disconnected") timer = setTimeout(() => this.end(), LOST_AFTER_MS);
    };
  }

  #hangUp() {
    const { events, peer } = this;
    this.events = this.peer = this.peerName = null;
    events?.close();
    peer?.close();
  }
}

function gathered(peer) {
  return new Promise((resolve) => {
    const look = () => { if (peer.iceGatheringState === "complete") resolve(); };
    peer.addEventListener("icegatheringstatechange", look);
    setTimeout(resolve, GATHER_MS);
    look();
  });
}

function connected(peer) {
  return new Promise((resolve, reject) => {
    const fail = () => reject(new Problem(0, "Picture and sound do not come through: a firewall may hold back UDP."));
    const timer = setTimeout(fail, CONNECT_MS);
    peer.onconnectionstatechange = () => {
      if (!["connected", "failed", "closed"].includes(peer.connectionState)) return;
      clearTimeout(timer);
      if (peer.connectionState === "connected") resolve();
      else fail();
    };
    peer.onconnectionstatechange();
  });
}

/** Asks the browser for packets of 10 ms from the microphone: each waits for the next on its way. */
function shortPackets(sdp) {
  return sdp.replace(/(a=rtpmap:\d+ opus\/48000\/2\r\n)/i, "$1a=ptime:10\r\n");
}
