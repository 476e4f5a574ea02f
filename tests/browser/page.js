// One participant, on the unmodified livekit-client; driven from outside through `call`.

const { Room, RoomEvent, Track, LocalVideoTrack } = LivekitClient;
const log = { events: [], speakers: new Set() };
let room;

/** A picture that nobody else draws: a colour, and a bar that wanders. */
function picture(colour, width, height, fps) {
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  const pen = canvas.getContext('2d');
  let step = 0;
  const draw = () => {
    pen.fillStyle = colour;
    pen.fillRect(0, 0, width, height);
    pen.fillStyle = '#fff';
    pen.fillRect((step++ * 24) % (width - 80), height / 3, 80, height / 3);
  };
  draw();
  setInterval(draw, 1000 / fps);
  return canvas.captureStream(fps).getVideoTracks()[0];
}

function show(track, publication, participant) {
  if (track.kind === 'audio') return;
  const figure = document.createElement('figure');
  figure.id = `${participant.identity}-${publication.source}`;
  const caption = document.createElement('figcaption');
  caption.textContent = figure.id;
  document.getElementById(figure.id)?.remove();
  figure.append(track.attach(), caption);
  document.getElementById('tiles').append(figure);
}

function remoteTrack(identity, source) {
  return room.getParticipantByIdentity(identity)?.getTrackPublication(source)?.track;
}

/** End-to-end encryption under a shared secret, by the client's own worker. */
async function cryptor(secret) {
  const keyProvider = new LivekitClient.ExternalE2EEKeyProvider();
  await keyProvider.setKey(secret);
  return { keyProvider, worker: new Worker(`/${client}/livekit-client.e2ee.worker.js`) };
}

/** The selected pair of each peer connection that has one. */
async function selected() {
  const { publisher, subscriber } = room.engine.pcManager ?? {};
  const pairs = [publisher, subscriber].filter(Boolean).map(async (connection) => {
    const stats = await connection.getStats();
    const all = [...stats.values()];
    const transport = all.find(({ type }) => type === 'transport');
    const pair = stats.get(transport?.selectedCandidatePairId)
      ?? all.find(({ type, selected }) => type === 'candidate-pair' && selected);
    return pair && { local: stats.get(pair.localCandidateId), remote: stats.get(pair.remoteCandidateId) };
  });
  return (await Promise.all(pairs)).filter((pair) => pair?.local && pair.remote);
}

const meters = new Map();

/** Meters what is played. */
function played(track) {
  const peaks = [];
  const context = new AudioContext();
  // Chromium feeds a remote stream into WebAudio only while an element plays it.
  const element = new Audio();
  element.srcObject = new MediaStream([track.mediaStreamTrack]);
  element.play();
  const analyser = context.createAnalyser();
  analyser.fftSize = 2048;
  context.createMediaStreamSource(element.srcObject).connect(analyser);
  const wave = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(wave);
    peaks.push(Math.max(...wave.map(Math.abs)));
    peaks.splice(0, peaks.length - 25);
  }, 40);
  return { track, peaks, element, stop: () => clearInterval(timer) };
}

/** Meters what is decoded: without a sound card Firefox plays nothing. */
function decoded(track) {
  const peaks = [];
  let last;
  const timer = setInterval(async () => {
    const stats = [...(await track.getRTCStatsReport()).values()];
    const now = stats.find(({ type }) => type === 'inbound-rtp');
    if (last && now?.totalSamplesDuration > last.totalSamplesDuration) {
      const energy = now.totalAudioEnergy - last.totalAudioEnergy;
      peaks.push(Math.sqrt(energy / (now.totalSamplesDuration - last.totalSamplesDuration)));
      peaks.splice(0, peaks.length - 5);
    }
    last = now;
  }, 200);
  return { track, peaks, stop: () => clearInterval(timer) };
}

window.call = {
  /**
   * `options` are the room's; with `secret`, media and data are encrypted end to end; with `failV1`
   * the client is made to believe that the server lacks the newer path; `rtcConfig` is the
   * browser's.
   */
  async join(url, token, title, { secret, failV1, rtcConfig, ...options } = {}) {
    document.getElementById('title').textContent = title;
    const encryption = secret && await cryptor(secret);
    room = new Room({ adaptiveStream: { pixelDensity: 1 }, dynacast: true, encryption, ...options });
    for (const event of Object.values(RoomEvent)) {
      room.on(event, () => log.events.push(event));
    }
    room.on(RoomEvent.TrackSubscribed, show);
    room.on(RoomEvent.TrackUnsubscribed, (track) => {
      for (const element of track.detach()) element.closest('figure')?.remove();
    });
    room.on(RoomEvent.ActiveSpeakersChanged, (speakers) => {
      for (const speaker of speakers) log.speakers.add(speaker.identity);
      for (const figure of document.querySelectorAll('figure')) {
        const speaks = speakers.some((s) => figure.id.startsWith(`${s.identity}-`));
        figure.classList.toggle('speaking', speaks);
      }
    });
    data.listen();
    if (failV1) await room.simulateScenario('fail-on-v1-path');
    await room.connect(url, token, rtcConfig ? { rtcConfig } : {});
    if (encryption) await room.setE2EEEnabled(true);
    return room.localParticipant.sid;
  },

  /** By what kind of candidate each peer connection sends, and how it reaches its relay. */
  async paths() {
    const local = ({ local }) => `${local.candidateType} ${local.relayProtocol ?? local.protocol}`;
    return (await selected()).map(local);
  },

  /** By which pair of candidates: `prflx udp 192.0.2.1 to host udp 192.0.2.2`. */
  async pairs() {
    const words = ({ candidateType, protocol, address, relayProtocol }) =>
      `${candidateType} ${protocol} ${address}${relayProtocol ? ` by ${relayProtocol}` : ''}`;
    return (await selected()).map(({ local, remote }) => `${words(local)} to ${words(remote)}`);
  },

  /** The microphone is a tone without a pause. */
  async hum() {
    const context = new AudioContext();
    const tone = new OscillatorNode(context, { frequency: 300 });
    const out = context.createMediaStreamDestination();
    tone.connect(out);
    tone.start();
    navigator.mediaDevices.getUserMedia = async () => out.stream.clone();
  },

  /** Joins with a new room: after how many ms each came, since it began to connect. */
  async first(url, token) {
    room = new Room();
    const began = performance.now();
    const came = {};
    const note = (what) => {
      came[what] ??= Math.round(performance.now() - began);
    };
    const all = new Promise((resolve) => {
      const seen = (what) => {
        note(what);
        if (came.sound && came.picture) resolve();
      };
      room.on(RoomEvent.TrackSubscribed, (track) => {
        const element = track.attach();
        document.body.append(element);
        if (track.kind === 'video') {
          element.requestVideoFrameCallback(() => seen('picture'));
          return;
        }
        const timer = setInterval(async () => {
          const stats = [...(await track.getRTCStatsReport()).values()];
          if (!stats.some(({ type, totalAudioEnergy }) => type === 'inbound-rtp' && totalAudioEnergy > 0)) return;
          clearInterval(timer);
          seen('sound');
        }, 10);
      });
    });
    await room.connect(url, token);
    note('connected');
    await all;
    return came;
  },

  /** The STUN and TURN servers we were told of. */
  relays: () => room.engine.latestJoinResponse.iceServers.flatMap(({ urls }) => urls),

  /** Pictures stay as large as they are on a busy machine: only the server chooses among sizes. */
  async publish(colour, { width = 960, height = 540, ...options } = {}) {
    await room.localParticipant.setMicrophoneEnabled(true);
    const track = new LocalVideoTrack(picture(colour, width, height, 15), undefined, true);
    const how = { source: Track.Source.Camera, simulcast: true, degradationPreference: 'maintain-resolution' };
    await room.localParticipant.publishTrack(track, { ...how, ...options });
  },

  /** The real thing, `getDisplayMedia`; or a drawn one where there are two of them. */
  async share(colour, options) {
    if (colour) {
      const track = new LocalVideoTrack(picture(colour, 640, 360, 10), undefined, true);
      await room.localParticipant.publishTrack(track, { source: Track.Source.ScreenShare, simulcast: false, ...options });
    } else {
      const resolution = { width: 640, height: 360, frameRate: 10 };
      await room.localParticipant.setScreenShareEnabled(true, { resolution });
    }
  },

  mute: (muted) => room.localParticipant.setMicrophoneEnabled(!muted),
  muteCamera: (muted) => {
    const track = room.localParticipant.getTrackPublication('camera').track;
    return muted ? track.mute() : track.unmute();
  },
  hasCamera: () => room.localParticipant.getTrackPublication('camera') !== undefined,
  leave: () => room.disconnect(),
  simulate: (scenario) => {
    log.events.length = 0;
    return room.simulateScenario(scenario);
  },
  events: () => [...log.events],
  forget() {
    log.events.length = 0;
    log.speakers.clear();
    this.hush();
  },
  /** Loudness begins anew. */
  hush() {
    for (const { peaks } of meters.values()) peaks.length = 0;
  },
  speakers: () => [...log.speakers],
  sid: () => room.localParticipant.sid,
  state: () => room.state,
  others: () => [...room.remoteParticipants.values()].map((p) => p.identity).sort(),
  muted: (identity, source) =>
    room.getParticipantByIdentity(identity)?.getTrackPublication(source)?.isMuted,

  resize(id, width, height) {
    const video = document.querySelector(`[id="${id}"] video`);
    Object.assign(video.style, { width: `${width}px`, height: `${height}px` });
  },

  /** Two looks at a tile: its size, its colour, and how many of its pixels moved. */
  async look(id) {
    const video = document.querySelector(`[id="${id}"] video`);
    if (!video?.videoWidth) return { ok: false };
    const canvas = Object.assign(document.createElement('canvas'), { width: 96, height: 54 });
    const pen = canvas.getContext('2d', { willReadFrequently: true });
    const grab = () => {
      pen.drawImage(video, 0, 0, 96, 54);
      return pen.getImageData(0, 0, 96, 54).data;
    };
    const first = grab();
    await new Promise((resolve) => setTimeout(resolve, 300));
    const second = grab();
    let moved = 0;
    for (let i = 0; i < first.length; i += 4) {
      const by = (n) => Math.abs(first[i + n] - second[i + n]);
      if (by(0) + by(1) + by(2) > 90) moved += 1;
    }
    const corner = (96 * 3 + 3) * 4;
    const colour = [...second.slice(corner, corner + 3)];
    return { moved, colour, width: video.videoWidth, height: video.videoHeight };
  },

  /** The loudest of the last second of somebody's microphone, or of fewer looks of 40 ms; 0 to 1. */
  loudness(identity, last = 25) {
    const track = remoteTrack(identity, 'microphone');
    if (!track) return 0;
    let meter = meters.get(identity);
    if (meter?.track !== track) {
      meter?.stop();
      meter = navigator.userAgent.includes('Firefox') ? decoded(track) : played(track);
      meters.set(identity, meter);
    }
    return Math.max(0, ...meter.peaks.slice(-last));
  },

  /** The codec somebody's camera comes in. */
  async codec(identity) {
    const stats = [...(await remoteTrack(identity, 'camera').getRTCStatsReport()).values()];
    const stream = stats.find(({ type }) => type === 'inbound-rtp');
    return stats.find(({ id }) => id === stream.codecId)?.mimeType;
  },

  /** How many packets of each remote track have come. */
  async received() {
    const publications = [...room.remoteParticipants.values()].flatMap((p) => [...p.trackPublications.values()]);
    return Promise.all(publications.filter(({ track }) => track).map(async ({ track, source }) => {
      const stats = [...(await track.getRTCStatsReport()).values()];
      return { source, packets: stats.find(({ type }) => type === 'inbound-rtp')?.packetsReceived ?? 0 };
    }));
  },

  /** Which simulcast layers of our camera are being asked for, lowest first. */
  layers() {
    const sender = room.localParticipant.getTrackPublication('camera').track.sender;
    return sender.getParameters().encodings.map((encoding) => encoding.active);
  },
};
