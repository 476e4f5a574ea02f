// A call without what is seen of it: LiveKit's signalling in JSON over the `livekit-json`
// subprotocol, and one peer connection. It survives a lost socket (resume), lost media (ICE
// restart) and a restarted server (joins again with the same media). No library.

/** Pauses before the attempts to come back; each is varied by half, so that not all come at once. */
const RETRY_AFTER_MS = [300, 300, 1200, 2700, 4800, 7000, 7000, 7000, 7000, 7000];
const FIRST_MESSAGE_MS = 8000;
const ANSWER_MS = 15000;
const MEDIA_MS = 15000;
const PUBLISHED_MS = 10000;
/** Reasons a client gives when it resumes. */
const SOCKET_LOST = 1;
const MEDIA_FAILED = 2;

const WHY_ENDED = {
  CLIENT_INITIATED: "You left the call.",
  DUPLICATE_IDENTITY: "You joined from somewhere else.",
  PARTICIPANT_REMOVED: "You were removed from the room.",
  ROOM_DELETED: "The room was closed.",
  ROOM_CLOSED: "The room was closed.",
  SERVER_SHUTDOWN: "The server was stopped.",
  JOIN_FAILURE: "No media arrived at the server in time.",
  CONNECTION_TIMEOUT: "The server heard nothing from this page any more.",
};

export class Call {
  /**
   * `base`: the address below which the server's paths lie. `view` hears of it all:
   * `changed()`, `status(kind, text)`, `notice(text)`, `ended(text)`.
   */
  constructor(base, token, tracks, view) {
    Object.assign(this, { base, token, view });
    this.me = undefined; // our ParticipantInfo
    this.participants = new Map(); // identity -> ParticipantInfo of another
    this.speaking = new Set(); // participant sids
    this.published = new Map(); // cid -> what we publish
    this.incoming = new Map(); // track sid -> MediaStreamTrack
    this.mids = {}; // media section -> track sid
    this.settings = new Map(); // track sid -> what we want of it, as told
    this.quality = new Map(); // participant sid -> how the server rates it
    this.signalRtt = undefined;
    this.attempts = 0;
    this.over = false;
    for (const { track, source } of tracks) this.keep(track, source);
    this.connect("join");
  }

  // ---- the socket -------------------------------------------------------------------------

  url(path, mode) {
    const url = new URL(path, this.base);
    url.searchParams.set("access_token", this.token);
    url.searchParams.set("join_request", joinRequest(mode === "resume" ? this.me.sid : "", this.reason));
    return url;
  }

  connect(mode) {
    this.mode = mode;
    this.opened = false;
    const url = this.url("rtc/v1", mode);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url, ["livekit-json"]);
    this.socket = socket;
    let work = Promise.resolve(); // one message after the other
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      this.opened = true;
      this.listen(this.patience ?? FIRST_MESSAGE_MS);
      work = work.then(() => (socket === this.socket ? this.hear(JSON.parse(data)) : undefined))
        .catch((error) => this.stumble(error));
    };
    socket.onclose = () => {
      if (socket !== this.socket) return;
      if (this.opened) this.lost("resume", SOCKET_LOST);
      else this.refused();
    };
    this.listen(FIRST_MESSAGE_MS);
  }

  /** Silence for this long means that the socket is dead, whatever the browser says. */
  listen(ms) {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => (this.opened ? this.lost("resume", SOCKET_LOST) : this.refused()), ms);
  }

  /** Sends, and tells whether it could. */
  say(message) {
    if (this.socket?.readyState !== WebSocket.OPEN || !this.opened) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  closeSocket() {
    const socket = this.socket;
    this.socket = undefined;
    socket?.close();
    for (const timer of [this.silence, this.answerDue, this.mediaDue, this.retry]) clearTimeout(timer);
    clearInterval(this.pings);
    this.retry = undefined;
  }

  /** A browser hides why a socket did not open: the same question by HTTP is answered. */
  async refused() {
    const mode = this.mode;
    const question = this.url("rtc/v1/validate", mode);
    this.closeSocket();
    const answer = await fetch(question, { signal: AbortSignal.timeout(3000) }).catch(() => undefined);
    const text = answer && !answer.ok ? await answer.text() : "";
    if (this.over || this.socket || this.retry) return;
    const final = answer && answer.status >= 400 && answer.status < 500;
    if (this.me && !final) return this.lost(mode, this.reason);
    if (!answer) return this.end("The server does not answer.");
    this.end(answer.ok ? "The server could not take us in; the room may be full." : `The server refused: ${text}`);
  }

  /** Tries to come back: `resume` goes on with what we have, `join` begins anew with our media. */
  lost(mode, reason) {
    if (this.over) return;
    this.next = mode === "join" || this.next === "join" || !this.me ? "join" : "resume";
    this.reason = reason;
    if (this.retry) return;
    this.closeSocket();
    const pause = RETRY_AFTER_MS[this.attempts];
    if (pause === undefined) {
      return this.end(this.connected ? "The connection was lost and did not come back."
        : "No media gets through to the server: is its UDP port open?");
    }
    this.attempts += 1;
    this.status("lost", `Connection lost. Coming back, attempt ${this.attempts} of ${RETRY_AFTER_MS.length}…`);
    this.retry = setTimeout(() => this.comeBack(), pause * (0.5 + Math.random()));
  }

  comeBack() {
    clearTimeout(this.retry);
    this.retry = undefined;
    const mode = this.next;
    this.next = undefined;
    if (mode === "join") this.forget();
    this.connect(mode);
  }

  /** The network is back: no need to wait for the next attempt. */
  hurry() {
    if (this.retry) this.comeBack();
  }

  /** What a fresh join learns anew. Our own media stays. */
  forget() {
    this.pc?.close();
    this.pc = undefined;
    for (const entry of this.published.values()) Object.assign(entry, { sid: "", announced: 0 });
    for (const map of [this.incoming, this.participants, this.speaking, this.settings, this.quality]) map.clear();
    this.mids = {};
    this.view.changed();
  }

  stumble(error) {
    console.error(error);
    this.view.notice(`Something went wrong here (${error.message}); joining again.`);
    this.lost("join", SOCKET_LOST);
  }

  status(kind, text) {
    this.view.status(kind, text);
  }

  // ---- what the server says ---------------------------------------------------------------

  hear(message) {
    const [kind, body] = Object.entries(message)[0] ?? [];
    switch (kind) {
      case "join": return this.joined(body);
      case "reconnect": return this.resumed(body);
      case "answer": return this.answered(body);
      case "trickle": return this.candidate(body);
      case "mediaSectionsRequirement": return this.addSections(body);
      case "trackPublished": return this.publicationAccepted(body);
      case "trackUnpublished": return this.publicationEnded(body.trackSid);
      case "mute": return this.mutedByServer(body);
      case "update": return this.updated(body.participants ?? []);
      case "speakersChanged": return this.spoke(body.speakers ?? []);
      case "connectionQuality": return this.rated(body.updates ?? []);
      case "subscribedQualityUpdate": return this.dynacast(body);
      case "subscriptionResponse": return this.cannotReceive(body);
      case "requestResponse": return this.requestRefused(body);
      case "refreshToken": this.token = body; return;
      case "pongResp": this.signalRtt = Date.now() - Number(body.lastPingTimestamp ?? Date.now()); return;
      case "leave": return this.told(body);
      // Whatever a newer server says beyond that is not meant for this page.
    }
  }

  async joined(join) {
    this.me = join.participant;
    this.room = join.room?.name ?? "";
    this.startPings(join);
    this.pc = new RTCPeerConnection({ iceServers: join.iceServers ?? [] });
    this.pc.ontrack = (event) => this.received(event);
    this.pc.onicecandidate = ({ candidate }) => {
      if (candidate) this.say({ trickle: { candidateInit: JSON.stringify(candidate), target: "PUBLISHER" } });
    };
    this.pc.onconnectionstatechange = ({ target }) => this.mediaState(target);
    for (const kind of ["audio", "audio", "audio", "video", "video", "video"]) {
      this.pc.addTransceiver(kind, { direction: "recvonly" });
    }
    this.updated(join.otherParticipants ?? []);
    for (const entry of this.published.values()) this.announce(entry);
    this.offering = false;
    this.awaitMedia();
    await this.negotiate();
  }

  /** The same session on a new socket: says what we have and restarts ICE. */
  async resumed({ iceServers }) {
    this.startPings({});
    if (iceServers) this.pc.setConfiguration({ iceServers });
    const entries = [...this.published.values()];
    const publishTracks = entries.filter((entry) => entry.sid)
      .map((entry) => ({ cid: entry.track.id, track: { sid: entry.sid } }));
    this.say({ syncState: { publishTracks, subscription: { subscribe: false } } });
    for (const entry of entries) {
      if (entry.sid) this.tellMuted(entry);
      else if (!entry.announced) this.announce(entry);
    }
    for (const setting of this.settings.values()) this.say({ trackSetting: setting });
    this.offering = false;
    this.awaitMedia();
    await this.negotiate(true);
  }

  startPings({ pingInterval = 5, pingTimeout = 15 }) {
    this.patience = pingTimeout * 1000;
    this.listen(this.patience);
    clearInterval(this.pings);
    const ping = () => this.say({ pingReq: { timestamp: String(Date.now()), rtt: String(this.signalRtt ?? 0) } });
    ping();
    this.pings = setInterval(() => {
      ping();
      this.checkPublications();
    }, pingInterval * 1000);
  }

  awaitMedia() {
    clearTimeout(this.mediaDue);
    this.mediaDue = setTimeout(() => this.lost("join", MEDIA_FAILED), MEDIA_MS);
  }

  mediaState(pc) {
    if (pc !== this.pc || this.retry) return;
    if (pc.connectionState === "connected") this.settled();
    if (pc.connectionState === "disconnected") this.status("lost", "The connection falters…");
    if (pc.connectionState === "failed") this.lost("resume", MEDIA_FAILED);
  }

  /** All is well: signalling answers, and media flows. */
  settled() {
    if (this.offering || this.pc.connectionState !== "connected") return;
    clearTimeout(this.mediaDue);
    this.attempts = 0;
    this.connected = true;
    this.status("good", `In the call, room “${this.room}”`);
    this.view.changed();
  }

  candidate({ candidateInit }) {
    // One that the browser does not understand is one path less, and nothing else.
    return this.pc?.addIceCandidate(JSON.parse(candidateInit)).catch(() => {});
  }

  told({ action = "DISCONNECT", reason = "" }) {
    if (action === "RESUME") return this.lost("resume", MEDIA_FAILED);
    if (action === "RECONNECT") return this.lost("join", SOCKET_LOST);
    this.end(WHY_ENDED[reason] ?? `The server ended the call (${reason || "no reason given"}).`);
  }

  updated(list) {
    for (const info of list) {
      if (info.sid === this.me.sid) this.me = info;
      if (info.identity === this.me.identity) continue;
      const known = this.participants.get(info.identity);
      const same = known?.sid === info.sid;
      if (info.state === "DISCONNECTED") {
        if (same) this.participants.delete(info.identity);
      } else if (!same || (info.version ?? 0) >= (known.version ?? 0)) {
        this.participants.set(info.identity, info);
      }
    }
    this.view.changed();
  }

  spoke(speakers) {
    for (const { sid, active } of speakers) {
      if (active) this.speaking.add(sid);
      else this.speaking.delete(sid);
    }
    this.view.changed();
  }

  rated(updates) {
    for (const { participantSid, quality = "POOR" } of updates) this.quality.set(participantSid, quality);
  }

  cannotReceive({ trackSid, err = "SE_UNKNOWN" }) {
    const owner = this.publication(trackSid)?.owner;
    const why = { SE_CODEC_UNSUPPORTED: "this browser has no codec for it", SE_TRACK_NOTFOUND: "it is gone" }[err];
    this.view.notice(`Cannot receive a track of ${owner?.name || "somebody"}: ${why ?? "reason unknown"}.`);
  }

  requestRefused({ reason = "OK", message = "", ...request }) {
    if (reason === "OK" || reason === "QUEUED" || request.trickle) return;
    const entry = this.published.get(request.addTrack?.cid);
    const what = entry ? naming(entry.source) : "a request";
    this.view.notice(`The server refused ${what}: ${message || reason.toLowerCase().replaceAll("_", " ")}.`);
    if (entry && !entry.sid) this.unpublish(entry);
  }

  // ---- what we send -----------------------------------------------------------------------

  keep(track, source) {
    const entry = { track, source, stream: new MediaStream([track]), sid: "", announced: 0, muted: false };
    this.published.set(track.id, entry);
    track.onended = () => this.unpublish(entry);
    return entry;
  }

  /** What we publish of this source, if anything. */
  own(source) {
    return [...this.published.values()].find((entry) => entry.source === source);
  }

  async publish(track, source) {
    const entry = this.keep(track, source);
    this.view.changed();
    // Without a connection it is announced once there is one again.
    if (!this.pc || !this.announce(entry)) return;
    await this.negotiate();
  }

  announce(entry) {
    const { track, source, stream, muted } = entry;
    const video = track.kind === "video";
    const { width = 0, height = 0 } = track.getSettings();
    const layers = video ? encodings(source, width, height) : [];
    const part = (size, layer) => Math.round(size / layer.scaleResolutionDownBy);
    const said = this.say({ addTrack: {
      cid: track.id, name: source.toLowerCase(), source, type: video ? "VIDEO" : "AUDIO", width, height, muted,
      layers: layers.map((layer) => ({ quality: layer.quality, bitrate: layer.maxBitrate,
        width: part(width, layer), height: part(height, layer) })),
      simulcastCodecs: video ? [{ codec: "vp8", cid: track.id }] : [],
    } });
    if (!said) return false;
    entry.announced = Date.now();
    const sendEncodings = video ? layers.map(({ quality, ...encoding }) => encoding) : undefined;
    entry.transceiver = this.pc.addTransceiver(track, { direction: "sendonly", streams: [stream], sendEncodings });
    return true;
  }

  publicationAccepted({ cid, track }) {
    const entry = this.published.get(cid);
    if (!entry) return;
    entry.sid = track.sid;
    if (entry.muted !== Boolean(track.muted)) this.tellMuted(entry);
    this.view.changed();
  }

  checkPublications() {
    for (const entry of this.published.values()) {
      if (entry.sid || !entry.announced || Date.now() - entry.announced < PUBLISHED_MS) continue;
      this.view.notice(`The server did not take ${naming(entry.source)}.`);
      this.unpublish(entry);
    }
  }

  publicationEnded(sid) {
    const entry = [...this.published.values()].find((one) => one.sid === sid);
    if (!entry) return;
    this.view.notice(`The server stopped ${naming(entry.source)}.`);
    return this.unpublish(entry);
  }

  unpublish(entry) {
    if (!this.published.delete(entry.track.id)) return;
    entry.track.onended = null;
    entry.track.stop();
    this.view.changed();
    if (!entry.transceiver || !this.pc) return;
    entry.transceiver.sender.replaceTrack(null).catch(() => {});
    entry.transceiver.direction = "inactive";
    return this.negotiate();
  }

  setMuted(entry, muted) {
    entry.muted = muted;
    entry.track.enabled = !muted;
    if (entry.sid) this.tellMuted(entry);
    this.view.changed();
  }

  tellMuted(entry) {
    this.say({ mute: { sid: entry.sid, muted: entry.muted } });
  }

  mutedByServer({ sid, muted = false }) {
    const entry = [...this.published.values()].find((one) => one.sid === sid);
    if (!entry || entry.muted === muted) return;
    entry.muted = muted;
    entry.track.enabled = !muted;
    this.view.notice(`The server ${muted ? "muted" : "unmuted"} ${naming(entry.source)}.`);
    this.view.changed();
  }

  /** Only the layers that somebody looks at are sent. */
  dynacast({ trackSid, subscribedCodecs = [], subscribedQualities = [] }) {
    const sender = [...this.published.values()].find((one) => one.sid === trackSid)?.transceiver?.sender;
    if (!sender) return;
    const qualities = subscribedCodecs[0]?.qualities ?? subscribedQualities;
    const wanted = new Set(qualities.filter((one) => one.enabled).map((one) => one.quality ?? "LOW"));
    const parameters = sender.getParameters();
    const names = ["LOW", "MEDIUM", "HIGH"];
    parameters.encodings.forEach((encoding, index, all) => {
      encoding.active = all.length === 1 ? wanted.size > 0 : wanted.has(names[index]);
      // The highest of two layers is also what a wish for more gets.
      if (index === all.length - 1 && wanted.has("HIGH")) encoding.active = true;
    });
    return sender.setParameters(parameters).catch(() => {});
  }

  // ---- negotiation ------------------------------------------------------------------------

  /** One offer at a time; what is wanted meanwhile goes into the next one. */
  async negotiate(iceRestart = false) {
    const pc = this.pc;
    if (!pc) return;
    if (this.offering && !iceRestart) { this.offerAgain = true; return; }
    this.offering = true;
    this.offerAgain = false;
    await pc.setLocalDescription(await pc.createOffer({ iceRestart }));
    if (pc !== this.pc) return;
    this.offerId = (this.offerId ?? 0) + 1;
    // A socket lost meanwhile is resumed, and then there is a new offer.
    if (!this.say({ offer: { type: "offer", sdp: pc.localDescription.sdp, id: this.offerId } })) return;
    clearTimeout(this.answerDue);
    this.answerDue = setTimeout(() => this.lost("join", SOCKET_LOST), ANSWER_MS);
  }

  async answered({ id = 0, sdp, midToTrackId = {} }) {
    if (id !== this.offerId || this.pc?.signalingState !== "have-local-offer") return;
    clearTimeout(this.answerDue);
    this.mids = midToTrackId;
    await this.pc.setRemoteDescription({ type: "answer", sdp });
    this.offering = false;
    this.settled();
    if (this.offerAgain) await this.negotiate();
  }

  addSections({ numAudios = 0, numVideos = 0 }) {
    if (!this.pc) return;
    for (let n = 0; n < numAudios; n++) this.pc.addTransceiver("audio", { direction: "recvonly" });
    for (let n = 0; n < numVideos; n++) this.pc.addTransceiver("video", { direction: "recvonly" });
    return this.negotiate();
  }

  // ---- what we receive --------------------------------------------------------------------

  received({ track, streams, transceiver }) {
    const sid = streams[0]?.id.split("|")[1] ?? this.mids[transceiver.mid];
    if (!sid) return;
    // A media section serves one track after another.
    for (const [old, its] of this.incoming) if (its === track) this.incoming.delete(old);
    this.incoming.set(sid, track);
    this.view.changed();
  }

  /** A track of somebody, with its owner. */
  publication(sid) {
    for (const owner of this.participants.values()) {
      const info = owner.tracks?.find((track) => track.sid === sid);
      if (info) return { owner, info };
    }
    return undefined;
  }

  /** The size at which a video is shown, in pixels of the screen; the server sends what fits. */
  want(sid, width, height, disabled) {
    const setting = { trackSids: [sid], disabled, width, height };
    if (JSON.stringify(this.settings.get(sid)) === JSON.stringify(setting)) return;
    this.settings.set(sid, setting);
    this.say({ trackSetting: setting });
  }

  // ---- the end ----------------------------------------------------------------------------

  leave() {
    this.say({ leave: { reason: "CLIENT_INITIATED" } });
    this.end(WHY_ENDED.CLIENT_INITIATED);
  }

  end(why) {
    if (this.over) return;
    this.over = true;
    this.closeSocket();
    this.pc?.close();
    for (const { track } of this.published.values()) {
      track.onended = null;
      track.stop();
    }
    this.view.ended(why);
  }
}

/** How a source is called in a sentence. */
const naming = (source) =>
  ({ MICROPHONE: "your microphone", CAMERA: "your camera", SCREEN_SHARE: "your screen" })[source] ?? "a track";

/** Simulcast: three layers for a camera, two for a small one, one for a screen. */
function encodings(source, width, height) {
  if (source === "SCREEN_SHARE") return [{ quality: "HIGH", maxBitrate: 2_500_000, scaleResolutionDownBy: 1 }];
  if (Math.max(width, height) < 960) {
    return [
      { rid: "q", quality: "LOW", maxBitrate: 160_000, scaleResolutionDownBy: 2 },
      { rid: "h", quality: "MEDIUM", maxBitrate: 700_000, scaleResolutionDownBy: 1 },
    ];
  }
  return [
    { rid: "q", quality: "LOW", maxBitrate: 160_000, scaleResolutionDownBy: 4 },
    { rid: "h", quality: "MEDIUM", maxBitrate: 450_000, scaleResolutionDownBy: 2 },
    { rid: "f", quality: "HIGH", maxBitrate: 1_700_000, scaleResolutionDownBy: 1 },
  ];
}

/** What this page needs of LiveKit's JoinRequest, in protobuf, because it travels in the URL. */
function joinRequest(resumedSid, reason = 0) {
  const varint = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)]);
  const number = (field, value) => [...varint(field << 3), ...varint(value)];
  const bytes = (field, body) => [...varint((field << 3) | 2), ...varint(body.length), ...body];
  const text = (field, value) => bytes(field, [...new TextEncoder().encode(value)]);
  const javascript = 1;
  const protocol = 17;
  const client = [...number(1, javascript), ...text(2, "2.0.0"), ...number(3, protocol), ...text(7, "foci-try")];
  const settings = [...number(1, 1), ...number(2, 1)]; // auto_subscribe, adaptive_stream
  const resume = resumedSid ? [...number(7, 1), ...number(8, reason), ...text(9, resumedSid)] : [];
  const wrapped = bytes(2, [...bytes(1, client), ...bytes(2, settings), ...resume]);
  return btoa(String.fromCharCode(...wrapped)).replaceAll("+", "-").replaceAll("/", "_");
}
