// A call in one page: LiveKit's signalling in JSON over the `livekit-json` subprotocol, one peer
// connection, no library. The server's first frame is JSON already.

const $ = (id) => document.getElementById(id);
const base = new URL("./", location.href);

/** Fields of LiveKit's JoinRequest this page needs, in protobuf: it travels in the URL. */
function joinRequest() {
  const tag = (field, type) => (field << 3) | type;
  const bytes = (field, body) => [tag(field, 2), body.length, ...body];
  const text = (field, value) => bytes(field, [...new TextEncoder().encode(value)]);
  const client = [tag(1, 0), 1, ...text(2, "2.0.0"), tag(3, 0), 17, ...text(7, "foci-try")];
  const settings = [tag(1, 0), 1, tag(2, 0), 1]; // auto_subscribe, adaptive_stream
  const request = [...bytes(1, client), ...bytes(2, settings)];
  const wrapped = bytes(2, request);
  return btoa(String.fromCharCode(...wrapped)).replaceAll("+", "-").replaceAll("/", "_");
}

class Call {
  constructor(media) {
    this.media = media;
    this.offerId = 0;
    this.busy = false; // an offer is out
    this.again = false; // another one is due
    this.mids = {};
    this.participants = new Map(); // sid -> info
    this.speaking = new Set();
    this.published = new Map(); // cid -> { transceiver, source, sid }
    this.tiles = new Map(); // key -> element
    this.rtt = 0;
    this.last = new Map(); // stats of the previous second
  }

  open(token) {
    const url = new URL("rtc/v1", base);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("access_token", token);
    url.searchParams.set("join_request", joinRequest());
    this.socket = new WebSocket(url, ["livekit-json"]);
    this.socket.onmessage = (frame) => this.heard(JSON.parse(frame.data));
    this.socket.onclose = () => this.end("The connection was lost. Join again to come back.");
  }

  say(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  async heard(message) {
    const [kind, body] = Object.entries(message)[0] ?? [];
    switch (kind) {
      case "join": return this.joined(body);
      case "answer": return this.answered(body);
      case "trickle": return this.pc.addIceCandidate(JSON.parse(body.candidateInit)).catch(() => {});
      case "mediaSectionsRequirement": return this.addSections(body);
      case "trackPublished": this.published.get(body.cid).sid = body.track.sid; return;
      case "update": return this.updated(body.participants ?? []);
      case "speakersChanged": return this.spoke(body.speakers ?? []);
      case "subscribedQualityUpdate": return this.dynacast(body);
      case "pongResp": this.rtt = Date.now() - Number(body.lastPingTimestamp); return;
      case "leave": return this.end(`The server ended the call (${body.reason ?? "no reason"}).`);
    }
  }

  async joined(join) {
    this.me = join.participant;
    this.pc = new RTCPeerConnection({ iceServers: join.iceServers ?? [] });
    this.pc.ontrack = (event) => this.received(event);
    this.pc.onconnectionstatechange = () => status(`In the call: ${this.pc.connectionState}`);
    for (const kind of ["audio", "audio", "audio", "video", "video", "video"]) {
      this.pc.addTransceiver(kind, { direction: "recvonly" });
    }
    this.updated(join.otherParticipants ?? []);
    for (const track of this.media?.getTracks() ?? []) this.publish(track, track.kind === "audio" ? "MICROPHONE" : "CAMERA");
    await this.negotiate();
    this.timers = [
      setInterval(() => this.say({ pingReq: { timestamp: String(Date.now()), rtt: String(this.rtt) } }), 5000),
      setInterval(() => this.panel(), 1000),
    ];
  }

  publish(track, source) {
    const video = track.kind === "video";
    const { width = 0, height = 0 } = track.getSettings();
    const layers = video ? encodings(source, width, height) : [];
    const stream = new MediaStream([track]);
    const transceiver = this.pc.addTransceiver(track, {
      direction: "sendonly", streams: [stream],
      sendEncodings: video ? layers.map(({ quality, ...encoding }) => encoding) : undefined,
    });
    this.published.set(track.id, { transceiver, source, track });
    this.say({ addTrack: {
      cid: track.id, name: source.toLowerCase(), source, type: video ? "VIDEO" : "AUDIO", width, height,
      layers: layers.map((layer) => ({ quality: layer.quality, bitrate: layer.maxBitrate,
        width: Math.round(width / layer.scaleResolutionDownBy), height: Math.round(height / layer.scaleResolutionDownBy) })),
      simulcastCodecs: video ? [{ codec: "vp8", cid: track.id }] : [],
    } });
    if (video) {
      const tile = this.tile(`own ${source}`, "You", source === "SCREEN_SHARE");
      tile.classList.add("own");
      tile.querySelector("video").srcObject = stream;
    }
    track.onended = () => this.unpublish(track.id);
  }

  unpublish(cid) {
    const entry = this.published.get(cid);
    if (!entry) return;
    entry.track.stop();
    entry.transceiver.sender.replaceTrack(null);
    entry.transceiver.direction = "inactive";
    this.published.delete(cid);
    this.dropTile(`own ${entry.source}`);
    this.negotiate();
    buttons(this);
  }

  mute(source) {
    const entry = [...this.published.values()].find((one) => one.source === source);
    if (!entry?.sid) return;
    entry.track.enabled = !entry.track.enabled;
    this.say({ mute: { sid: entry.sid, muted: !entry.track.enabled } });
    buttons(this);
  }

  async share() {
    const shared = [...this.published].find(([, one]) => one.source === "SCREEN_SHARE");
    if (shared) return this.unpublish(shared[0]);
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: true });
    this.publish(stream.getVideoTracks()[0], "SCREEN_SHARE");
    await this.negotiate();
    buttons(this);
  }

  // One offer at a time; what is wanted meanwhile goes into the next one.
  async negotiate() {
    if (this.busy) { this.again = true; return; }
    this.busy = true;
    await this.pc.setLocalDescription(await this.pc.createOffer());
    this.offerId += 1;
    this.say({ offer: { type: "offer", sdp: this.pc.localDescription.sdp, id: this.offerId } });
  }

  async answered(answer) {
    if ((answer.id ?? 0) !== this.offerId) return;
    this.mids = answer.midToTrackId ?? {};
    await this.pc.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    this.busy = false;
    if (this.again) { this.again = false; await this.negotiate(); }
  }

  addSections({ numAudios = 0, numVideos = 0 }) {
    for (let n = 0; n < numAudios; n++) this.pc.addTransceiver("audio", { direction: "recvonly" });
    for (let n = 0; n < numVideos; n++) this.pc.addTransceiver("video", { direction: "recvonly" });
    return this.negotiate();
  }

  received({ track, streams, transceiver }) {
    const sid = streams[0]?.id.split("|")[1] ?? this.mids[transceiver.mid];
    if (!sid) return;
    const owner = [...this.participants.values()].find((one) => one.tracks?.some((t) => t.sid === sid));
    if (!owner) return;
    const info = owner.tracks.find((t) => t.sid === sid);
    const screen = info.source === "SCREEN_SHARE";
    const key = `${owner.sid} ${screen ? "screen" : "camera"}`;
    const tile = this.tile(key, owner.name || owner.identity, screen);
    const element = tile.querySelector(track.kind);
    element.srcObject = new MediaStream([track]);
    element.play().catch(() => {});
    tile.dataset[track.kind] = sid;
    if (track.kind === "video") this.watchSize(element, sid);
  }

  // The server sends the layer that fits what is shown.
  watchSize(element, sid) {
    let timer;
    const tell = () => {
      const scale = devicePixelRatio;
      this.say({ trackSetting: { trackSids: [sid], disabled: document.hidden,
        width: Math.round(element.clientWidth * scale), height: Math.round(element.clientHeight * scale) } });
    };
    const soon = () => { clearTimeout(timer); timer = setTimeout(tell, 100); };
    new ResizeObserver(soon).observe(element);
  }

  updated(list) {
    for (const info of list) {
      if (info.sid === this.me.sid) continue;
      if (info.state === "DISCONNECTED") {
        this.participants.delete(info.sid);
        this.dropTile(`${info.sid} camera`);
        this.dropTile(`${info.sid} screen`);
        continue;
      }
      this.participants.set(info.sid, info);
      this.tile(`${info.sid} camera`, info.name || info.identity, false).dataset.sid = info.sid;
      if (!info.tracks?.some((t) => t.source === "SCREEN_SHARE")) this.dropTile(`${info.sid} screen`);
    }
  }

  spoke(speakers) {
    for (const { sid, active } of speakers) {
      const tile = sid === this.me.sid ? this.tiles.get("own CAMERA") : this.tiles.get(`${sid} camera`);
      tile?.classList.toggle("speaking", Boolean(active));
    }
  }

  dynacast({ trackSid, subscribedCodecs = [], subscribedQualities = [] }) {
    const entry = [...this.published.values()].find((one) => one.sid === trackSid);
    if (!entry) return;
    const qualities = subscribedCodecs[0]?.qualities ?? subscribedQualities;
    const wanted = new Set(qualities.filter((q) => q.enabled).map((q) => q.quality ?? "LOW"));
    const parameters = entry.transceiver.sender.getParameters();
    const names = parameters.encodings.length === 1 ? ["HIGH"] : ["LOW", "MEDIUM", "HIGH"];
    parameters.encodings.forEach((encoding, index) => {
      encoding.active = parameters.encodings.length === 1 ? wanted.size > 0 : wanted.has(names[index]);
    });
    return entry.transceiver.sender.setParameters(parameters).catch(() => {});
  }

  tile(key, label, screen) {
    let tile = this.tiles.get(key);
    if (!tile) {
      tile = document.createElement("figure");
      tile.className = "tile";
      tile.classList.toggle("screen", screen);
      tile.innerHTML = "<video autoplay playsinline muted></video><audio autoplay></audio><figcaption></figcaption>";
      this.tiles.set(key, tile);
      $("tiles").append(tile);
    }
    tile.querySelector("figcaption").textContent = screen ? `${label}: screen` : label;
    return tile;
  }

  dropTile(key) {
    this.tiles.get(key)?.remove();
    this.tiles.delete(key);
  }

  async panel() {
    const stats = new Map([...await this.pc.getStats()]);
    const all = [...stats.values()];
    const transport = all.find((s) => s.type === "transport");
    const pair = stats.get(transport?.selectedCandidatePairId);
    const remote = stats.get(pair?.remoteCandidateId);
    const rows = [
      ["Selected candidate pair", pair && remote ? `${remote.protocol} ${remote.address}:${remote.port}` : "none yet"],
      ["Round trip", pair?.currentRoundTripTime === undefined ? "not measured" : `${Math.round(pair.currentRoundTripTime * 1000)} ms`],
      ["Signalling round trip", `${this.rtt} ms`],
      ["Encryption", transport?.srtpCipher ?? "none yet"],
    ];
    $("connection").replaceChildren(...rows.flatMap(([name, value]) => [node("dt", name), node("dd", value)]));
    const streams = all.filter((s) => s.type === "inbound-rtp" || s.type === "outbound-rtp");
    $("streams").replaceChildren(...streams.map((stream) => this.row(stream, stats)));
  }

  row(stream, stats) {
    const received = stream.type === "inbound-rtp";
    const bytes = received ? stream.bytesReceived : stream.bytesSent;
    const before = this.last.get(stream.id) ?? { bytes, at: stream.timestamp };
    this.last.set(stream.id, { bytes, at: stream.timestamp });
    const seconds = (stream.timestamp - before.at) / 1000;
    const codec = stats.get(stream.codecId)?.mimeType ?? "";
    const picture = stream.frameWidth ? `${stream.frameWidth}×${stream.frameHeight} ${stream.framesPerSecond ?? 0} fps` : "";
    const total = (stream.packetsReceived ?? 0) + (stream.packetsLost ?? 0);
    const loss = received ? `${total ? (100 * stream.packetsLost / total).toFixed(1) : 0} %` : "";
    const cells = [
      `${received ? "from" : "to"} server, ${stream.kind}`, codec.split("/")[1] ?? "", picture,
      received ? layerName(stream.frameHeight) : stream.rid ?? "",
      seconds > 0 ? Math.round((bytes - before.bytes) * 8 / 1000 / seconds) : 0, loss,
    ];
    const row = document.createElement("tr");
    row.append(...cells.map((cell) => node("td", String(cell))));
    return row;
  }

  end(why) {
    if (this.over) return;
    this.over = true;
    this.socket.onclose = null;
    this.socket.close();
    this.pc?.close();
    this.timers?.forEach(clearInterval);
    for (const { track } of this.published.values()) track.stop();
    for (const key of [...this.tiles.keys()]) this.dropTile(key);
    call = undefined;
    inCall(false);
    status(why);
  }

  leave() {
    this.say({ leave: { reason: "CLIENT_INITIATED" } });
    this.end("You left the call.");
  }
}

/** Simulcast: three layers for a camera, one for a screen. */
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

const layerName = (height) => !height ? "" : height <= 240 ? "low" : height <= 480 ? "medium" : "high";

function node(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}

function status(text) {
  $("status").textContent = text;
}

function inCall(yes) {
  $("entry").hidden = yes;
  $("controls").hidden = !yes;
  $("panel").hidden = !yes;
}

function buttons(current) {
  const on = (source) => [...current.published.values()].some((one) => one.source === source && one.track.enabled);
  $("microphone").setAttribute("aria-pressed", on("MICROPHONE"));
  $("camera").setAttribute("aria-pressed", on("CAMERA"));
  $("screen").setAttribute("aria-pressed", on("SCREEN_SHARE"));
}

async function join(event) {
  event.preventDefault();
  status("Asking for camera and microphone…");
  const media = await devices();
  const query = new URLSearchParams({ room: $("room").value, identity: $("name").value });
  const answer = await fetch(new URL(`try/token?${query}`, base), { method: "POST" });
  if (!answer.ok) return status(`No token: ${await answer.text()}`);
  call = new Call(media);
  call.open(await answer.text());
  inCall(true);
  buttons(call);
  status("Joining…");
}

/** Camera and microphone; either may be missing. */
async function devices() {
  const video = { width: { ideal: 1280 }, height: { ideal: 720 } };
  for (const wanted of [{ audio: true, video }, { audio: true }, { video }]) {
    try {
      return await navigator.mediaDevices.getUserMedia(wanted);
    } catch { /* the next smaller wish */ }
  }
  return undefined;
}

let call;
$("name").value = `guest-${Math.floor(Math.random() * 9000 + 1000)}`;
$("entry").onsubmit = join;
$("leave").onclick = () => call?.leave();
$("microphone").onclick = () => call?.mute("MICROPHONE");
$("camera").onclick = () => call?.mute("CAMERA");
$("screen").onclick = () => call?.share().catch(() => {});
addEventListener("pagehide", () => call?.leave());
