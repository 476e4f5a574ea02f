// The panel: what the browser measures, once a second, as numbers a person can use.

const COLUMNS = ["Stream", "Codec", "Picture", "Layer", "kbit/s", "Lost, last second", "Lost, total"];
const LAYERS = ["low", "medium", "high"];
const SOURCES = { MICROPHONE: "microphone", CAMERA: "camera", SCREEN_SHARE: "screen" };

export class Panel {
  constructor(call, connection, streams) {
    Object.assign(this, { call, connection, streams });
    this.before = new Map(); // id of a statistic -> its counters a second ago
    this.timer = setInterval(() => this.measure(), 1000);
  }

  stop() {
    clearInterval(this.timer);
  }

  async measure() {
    const { pc } = this.call;
    if (!pc || pc.connectionState === "closed") return;
    const report = await pc.getStats();
    if (pc !== this.call.pc) return;
    const all = [...report.values()];
    const now = new Map();
    this.connection.replaceChildren(...this.facts(report, all, now)
      .flatMap(([name, value]) => [node("dt", name), node("dd", value)]));
    const rows = all.filter((stat) => stat.type === "inbound-rtp" || stat.type === "outbound-rtp")
      .map((stat) => this.cells(stat, report, all, now)).filter(Boolean)
      .sort((a, b) => a[0].localeCompare(b[0]) || LAYERS.indexOf(a[3].split(",")[0]) - LAYERS.indexOf(b[3].split(",")[0]));
    this.streams.replaceChildren(...rows.map(row));
    this.before = now;
  }

  facts(report, all, now) {
    const transport = all.find((stat) => stat.type === "transport");
    const pair = report.get(transport?.selectedCandidatePairId)
      ?? all.find((stat) => stat.type === "candidate-pair" && stat.nominated && stat.state === "succeeded");
    const end = (id) => {
      const one = report.get(id);
      if (!one) return "none yet";
      return `${one.candidateType} ${one.protocol} ${one.address || "(hidden by the browser)"}:${one.port}`;
    };
    const down = this.rate(pair, "bytesReceived", now);
    const up = this.rate(pair, "bytesSent", now);
    const rtt = pair?.currentRoundTripTime;
    const { signalRtt, quality, me } = this.call;
    return [
      ["Path, here", end(pair?.localCandidateId)],
      ["Path, server", end(pair?.remoteCandidateId)],
      ["Round trip, media", rtt === undefined ? "not measured yet" : milliseconds(rtt * 1000)],
      ["Round trip, signalling", signalRtt === undefined ? "not measured yet" : milliseconds(signalRtt)],
      ["All received, all sent", down === undefined ? "measuring" : `${down} kbit/s, ${up} kbit/s`],
      ["Encryption", transport?.dtlsState === "connected" ? encryption(transport) : "not yet"],
      ["The server rates us", (quality.get(me?.sid) ?? "not rated yet").toLowerCase()],
    ];
  }

  /** Kilobits per second since the last look; undefined at the first. */
  rate(stat, field, now) {
    if (!stat) return undefined;
    const before = this.before.get(stat.id);
    now.set(stat.id, stat);
    const seconds = before ? (stat.timestamp - before.timestamp) / 1000 : 0;
    if (seconds <= 0) return undefined;
    return Math.round(((stat[field] ?? 0) - (before[field] ?? 0)) * 8 / 1000 / seconds);
  }

  cells(stat, report, all, now) {
    const codec = report.get(stat.codecId)?.mimeType?.split("/")[1] ?? "";
    const picture = stat.frameWidth
      ? `${stat.frameWidth}×${stat.frameHeight}, ${Math.round(stat.framesPerSecond ?? 0)} fps` : "";
    const received = stat.type === "inbound-rtp";
    const rate = this.rate(stat, received ? "bytesReceived" : "bytesSent", now);
    const parts = received ? this.fromServer(stat) : this.toServer(stat, all);
    if (!parts) return undefined;
    const { label, layer, lost, total } = parts;
    return [label, codec, picture, layer, rate ?? "", lost, total];
  }

  fromServer(stat) {
    const sid = this.call.mids[stat.mid];
    const { owner, info } = this.call.publication(sid) ?? {};
    if (!info || !stat.packetsReceived) return undefined;
    const before = this.before.get(stat.id);
    const lost = stat.packetsLost - (before?.packetsLost ?? 0);
    const came = stat.packetsReceived - (before?.packetsReceived ?? 0);
    return {
      label: `from ${owner.name || owner.identity}, ${SOURCES[info.source] ?? stat.kind}`,
      layer: stat.kind === "video" ? layerName(stat, info) : "",
      lost: before ? percent(lost, came) : "",
      total: `${stat.packetsLost} of ${stat.packetsLost + stat.packetsReceived}`,
    };
  }

  toServer(stat, all) {
    const entry = [...this.call.published.values()].find((one) => one.transceiver?.mid === stat.mid);
    if (!entry || !stat.packetsSent) return undefined;
    const heard = all.find((one) => one.type === "remote-inbound-rtp" && one.localId === stat.id);
    const layers = { q: "low", h: "medium", f: "high" };
    const layer = stat.rid ? layers[stat.rid] ?? stat.rid : "single";
    return {
      label: `to server, ${SOURCES[entry.source]}`,
      layer: stat.kind === "audio" ? "" : `${layer}${stat.active === false ? ", not wanted" : ""}`,
      lost: heard?.fractionLost === undefined ? "" : `${(heard.fractionLost * 100).toFixed(1)} %`,
      total: heard ? `${heard.packetsLost} of ${stat.packetsSent}` : "",
    };
  }
}

/** Which of the announced layers a received picture is: the one nearest to it in size. */
export function layerName({ frameHeight, frameWidth }, { layers = [] }) {
  if (!frameHeight) return "";
  if (layers.length < 2) return "single";
  const away = ({ width = 0, height = 0 }) => Math.abs(Math.min(width, height) - Math.min(frameWidth, frameHeight));
  const nearest = layers.reduce((best, layer) => (away(layer) < away(best) ? layer : best));
  return (nearest.quality ?? "LOW").toLowerCase();
}

function encryption({ srtpCipher, tlsVersion }) {
  const dtls = { FEFD: "1.2", FEFC: "1.3" }[tlsVersion] ?? "";
  return `SRTP ${srtpCipher?.replace("SRTP_", "").replaceAll("_", "-") ?? ""} keyed by DTLS ${dtls}`;
}

const milliseconds = (value) => (value < 1 ? "below 1 ms" : `${Math.round(value)} ms`);

function percent(part, rest) {
  const whole = part + rest;
  return whole > 0 ? `${Math.max(0, 100 * part / whole).toFixed(1)} %` : "nothing came";
}

function row(cells) {
  const element = document.createElement("tr");
  cells.forEach((text, column) => {
    const cell = node(column === 0 ? "th" : "td", String(text));
    if (column === 0) cell.scope = "row";
    cell.dataset.label = COLUMNS[column];
    element.append(cell);
  });
  return element;
}

function node(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}
