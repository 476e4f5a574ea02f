// A call of three through npm @livekit/rtc-node, which is libwebrtc in Node: node node.mjs URL
//
// a and b publish a tone of their own and a moving picture in a colour of their own, c watches; each
// must hear the pitches and see the colours of the others. Then silence, data, a resume and leave.

import { createHash } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { perform, token, until, use } from './stage.mjs';

const rtc = use('@livekit/rtc-node');
const url = process.argv[2] ?? 'ws://127.0.0.1:7880';
const room = `node-${Date.now()}`;
const RATE = 48_000;
const [WIDTH, HEIGHT] = [640, 360];
const PARTS = {
  a: { pitch: 440, colour: [200, 30, 30], options: {} },
  b: { pitch: 880, colour: [30, 30, 200], options: { singlePeerConnection: true } },
  c: { options: {} },
};

/** A colour, and a white bar that wanders. */
function picture(colour, step) {
  const data = new Uint8Array(WIDTH * HEIGHT * 4);
  const at = (step * 24) % (WIDTH - 80);
  for (let n = 0; n < data.length; n += 4) {
    const [x, y] = [(n / 4) % WIDTH, Math.floor(n / 4 / WIDTH)];
    const bar = x >= at && x < at + 80 && y > HEIGHT / 3 && y < (2 * HEIGHT) / 3;
    data.set(bar ? [255, 255, 255, 255] : [...colour, 255], n);
  }
  return new rtc.VideoFrame(data, WIDTH, HEIGHT, rtc.VideoBufferType.RGBA);
}

class Player {
  seen = new Map(); // identity -> { colour, moved, frames }
  heard = new Map(); // identity -> [{ rms, hertz }], the last half second
  messages = [];
  texts = [];
  events = [];
  room = new rtc.Room();

  constructor(name) {
    Object.assign(this, { name, ...PARTS[name] });
    this.room.on(rtc.RoomEvent.TrackSubscribed, (track, publication, { identity }) => {
      const watch = track.kind === rtc.TrackKind.KIND_AUDIO ? this.hear : this.see;
      watch.call(this, track, identity).catch((error) => this.events.push(String(error)));
    });
    this.room.on(rtc.RoomEvent.DataReceived, (payload, participant, kind, topic) => {
      this.messages.push({ from: participant?.identity, text: Buffer.from(payload).toString(), topic });
    });
    for (const event of ['TrackUnpublished', 'Reconnected', 'ParticipantDisconnected']) {
      this.room.on(rtc.RoomEvent[event], () => this.events.push(event));
    }
    this.room.registerTextStreamHandler('chat', async (reader, { identity }) => {
      this.texts.push({ from: identity, text: await reader.readAll() });
    });
  }

  async join() {
    await this.room.connect(url, token(this.name, room), { autoSubscribe: true, dynacast: true, ...this.options });
    this.room.localParticipant.registerRpcMethod('shout', async ({ payload }) => payload.toUpperCase());
  }

  async publishTone() {
    const source = new rtc.AudioSource(RATE, 1, 200);
    this.microphone = rtc.LocalAudioTrack.createAudioTrack('tone', source);
    await this.publish(this.microphone, { source: rtc.TrackSource.SOURCE_MICROPHONE, dtx: false });
    this.feed(this.tone(source));
  }

  async publishPicture() {
    const source = new rtc.VideoSource(WIDTH, HEIGHT);
    const camera = rtc.LocalVideoTrack.createVideoTrack('picture', source);
    const videoCodec = rtc.VideoCodec.VP8;
    await this.publish(camera, { source: rtc.TrackSource.SOURCE_CAMERA, simulcast: true, videoCodec });
    this.feed(this.motion(source));
  }

  publish(track, options) {
    return this.room.localParticipant.publishTrack(track, new rtc.TrackPublishOptions(options));
  }

  feed(endless) {
    endless.catch((error) => this.events.push(String(error)));
  }

  /** Feeds a source in real time, until its track ends with it or the script does. */
  async tone(source) {
    const size = RATE / 100;
    for (let start = 0; ; start += size) {
      const wave = Int16Array.from({ length: size }, (_, n) =>
        Math.sin((2 * Math.PI * this.pitch * (start + n)) / RATE) * 10_000);
      await source.captureFrame(new rtc.AudioFrame(wave, RATE, 1, size));
    }
  }

  async motion(source) {
    for (let step = 0; ; step += 1) {
      source.captureFrame(picture(this.colour, step));
      await pause(1000 / 12);
    }
  }

  async see(track, identity) {
    let last;
    for await (const { frame } of new rtc.VideoStream(track)) {
      const { data, width, height } = frame.convert(rtc.VideoBufferType.RGBA);
      const corner = (4 * width + 4) * 4;
      const row = data.slice(Math.floor(height / 2) * width * 4, Math.floor(height / 2 + 1) * width * 4);
      const moved = last?.length === row.length && row.some((value, n) => Math.abs(value - last[n]) > 60);
      last = row;
      this.seen.set(identity, { colour: [...data.slice(corner, corner + 3)], moved, width, when: Date.now() });
    }
  }

  async hear(track, identity) {
    const heard = [];
    this.heard.set(identity, heard);
    for await (const { data } of new rtc.AudioStream(track, RATE, 1)) {
      let [power, rising] = [0, 0];
      data.forEach((value, n) => {
        power += value * value;
        rising += n > 0 && data[n - 1] < 0 && value >= 0 ? 1 : 0;
      });
      heard.push({ rms: Math.sqrt(power / data.length), hertz: (rising * RATE) / data.length, when: Date.now() });
      heard.splice(0, heard.length - 50);
    }
  }

  sees({ name, colour }, since = 0) {
    const seen = this.seen.get(name);
    const right = seen?.colour.every((value, n) => Math.abs(value - colour[n]) < 40);
    return { ok: right && seen.moved && seen.when > since, ...seen };
  }

  hears({ name, pitch }, since = 0) {
    const loud = (this.heard.get(name) ?? []).filter(({ rms, when }) => rms > 2_000 && when > since);
    const hertz = loud.reduce((sum, one) => sum + one.hertz, 0) / loud.length;
    return { ok: loud.length >= 40 && Math.abs(hertz - pitch) < 40, loud: loud.length, hertz };
  }
}

const others = (all, one) => all.filter((each) => each !== one);

async function media(all) {
  const since = Date.now();
  const publishers = all.filter(({ pitch }) => pitch);
  for (const one of all) {
    for (const other of others(publishers, one)) {
      await until(`${one.name} sees ${other.name}`, () => one.sees(other, since));
      await until(`${one.name} hears ${other.name}`, () => one.hears(other, since));
    }
  }
}

async function data(all) {
  const [a, b, c] = all;
  const say = (text, options) =>
    a.room.localParticipant.publishData(Buffer.from(text), { reliable: true, topic: 'words', ...options });
  await say('for b alone', { destination_identities: ['b'] });
  await say('for all');
  const read = (one) => one.messages.map(({ from, text, topic }) => `${from} ${topic} ${text}`).join('; ');
  await until('b and c read what they should', () => ({
    ok: read(b) === 'a words for b alone; a words for all' && read(c) === 'a words for all',
    had: [read(b), read(c)],
  }));
  const text = 'wörds – 文字 '.repeat(5000);
  await b.room.localParticipant.sendText(text, { topic: 'chat' });
  const digest = (value) => createHash('sha256').update(value).digest('hex');
  for (const one of [a, c]) {
    await until(`${one.name} gets a long text of b`, () =>
      one.texts.length === 1 && one.texts[0].from === 'b' && digest(one.texts[0].text) === digest(text));
  }
  const loud = await c.room.localParticipant.performRpc({ destinationIdentity: 'a', method: 'shout', payload: 'hey' });
  if (loud !== 'HEY') throw new Error(`c calls a: ${loud}`);
}

/** There is no mute in this client: what is not to be heard is no longer published. */
async function silence(a, b) {
  await a.room.localParticipant.unpublishTrack(a.microphone.sid);
  await until('b learns that a publishes no sound', () => b.events.includes('TrackUnpublished'));
  b.heard.delete('a');
  await a.publishTone();
  await until('b hears a again', () => b.hears(a));
}

async function resume(all, one) {
  await one.room.simulateScenario(rtc.SimulateScenarioKind.SIMULATE_SIGNAL_RECONNECT);
  await until(`${one.name} is back`, () => one.events.includes('Reconnected'));
  await media(all);
  const gone = all.filter(({ events }) => events.includes('ParticipantDisconnected'));
  if (gone.length) throw new Error('a resume was seen as a leave');
}

await perform('rtc-node', 90, async () => {
  const all = ['a', 'b', 'c'].map((name) => new Player(name));
  const [a, b, c] = all;
  for (const one of all) await one.join();
  for (const one of [a, b]) {
    await one.publishTone();
    await one.publishPicture();
  }
  await media(all);
  await silence(a, b);
  await data(all);
  await resume(all, b);
  await a.room.disconnect();
  await until('b and c see a leave', () => [b, c].every(({ events }) => events.includes('ParticipantDisconnected')));
  await b.room.disconnect();
  await c.room.disconnect();
});
