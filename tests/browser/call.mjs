// A call of three in Chromium on the unmodified livekit-client: node call.mjs URL
//
// Everything is judged by what the others see and hear: pixels of the colour that one publisher
// draws, moving; loudness; names of speakers. Each wait has a deadline.

import { run, serve, shot, tab, token, until } from './stage.mjs';

const url = process.argv[2] ?? 'ws://127.0.0.1:7880';
const room = `browser-${Date.now()}`;
const COLOURS = { a: '#c01010', b: '#10a010', c: '#1010c0', share: '#c0c010' };
const NAMES = ['a', 'b', 'c'];
const pages = {};

const ask = (name, what, ...args) =>
  pages[name].evaluate((what, args) => window.call[what](...args), what, args);

/** Whether the colour a tile shows is the one its publisher draws, as video codecs keep it. */
function alike(seen, wanted) {
  const channel = (n) => parseInt(wanted.slice(1 + 2 * n, 3 + 2 * n), 16);
  return seen.every((value, n) => Math.abs(value - channel(n)) < 60);
}

async function sees(viewer, publisher, source = 'camera', colour = COLOURS[publisher]) {
  const seen = await ask(viewer, 'look', `${publisher}-${source}`);
  return { ok: seen.moved > 20 && alike(seen.colour, colour), ...seen };
}

const pairs = () => NAMES.flatMap((v) => NAMES.filter((p) => p !== v).map((p) => [v, p]));

async function all(what, seconds) {
  await until(what, async () => {
    const views = await Promise.all(pairs().map(async ([v, p]) => [`${v} sees ${p}`, await sees(v, p)]));
    const blind = views.filter(([, seen]) => !seen.ok);
    return { ok: blind.length === 0, blind };
  }, seconds);
}

async function join(page) {
  for (const name of NAMES) {
    pages[name] = await tab(page.browser, name, page.url);
    await ask(name, 'join', url, token(name, room), `${name} in ${room}`);
    await ask(name, 'publish', COLOURS[name]);
  }
  await all('each sees two moving pictures in the right colours');
  for (const [listener, speaker] of pairs()) {
    await until(`${listener} hears ${speaker}`, async () => (await ask(listener, 'loudness', speaker)) > 0.05);
  }
  await until('a learns that b and c speak', async () => {
    const speakers = await ask('a', 'speakers');
    return { ok: speakers.includes('b') && speakers.includes('c'), speakers };
  });
}

async function mute() {
  await ask('b', 'mute', true);
  await until('a learns that b is muted', () => ask('a', 'muted', 'b', 'microphone'));
  await until('a hears b no more', async () => (await ask('a', 'loudness', 'b')) < 0.01);
  await ask('b', 'muteCamera', true);
  await until('a learns that the camera of b is off', () => ask('a', 'muted', 'b', 'camera'));
  await ask('b', 'mute', false);
  await ask('b', 'muteCamera', false);
  await until('a hears b again', async () => (await ask('a', 'loudness', 'b')) > 0.05);
  await until('a sees b again', () => sees('a', 'b'));
}

/** The layer follows the size of the element; unwanted layers are not even encoded. */
async function layers() {
  const width = (viewer, wanted) => async () => {
    const seen = await sees(viewer, 'b');
    return { ...seen, ok: seen.ok && seen.width === wanted };
  };
  await ask('a', 'resize', 'b-camera', 960, 540);
  await until('a large tile gets the large layer', width('a', 960), 40);
  await ask('a', 'resize', 'b-camera', 160, 90);
  await ask('c', 'resize', 'b-camera', 160, 90);
  await until('a small tile gets the small layer', width('a', 320), 30);
  await until('b stops encoding what nobody watches', async () => {
    const active = await ask('b', 'layers');
    return { ok: active.at(0) && !active.at(-1), active };
  }, 30);
  await ask('a', 'resize', 'b-camera', 960, 540);
  await until('b encodes it again', async () => (await ask('b', 'layers')).at(-1));
  await until('and it arrives', width('a', 960), 40);
  await ask('a', 'resize', 'b-camera', 400, 225);
  await ask('c', 'resize', 'b-camera', 400, 225);
}

/** More remote videos than the first offer had room for. */
async function share() {
  await ask('a', 'share', COLOURS.share);
  await ask('b', 'share');
  await until('c sees the picture a shares', () => sees('c', 'a', 'screen_share', COLOURS.share));
  await until('c sees the screen b shares, its fourth video', async () => {
    const seen = await ask('c', 'look', 'b-screen_share');
    return { ok: seen.width > 0, ...seen };
  });
  await all('and still the cameras');
  await shot(pages.c, 'call-four-videos');
}

async function reconnect(scenario, done, keeps) {
  const before = await ask('b', 'sid');
  for (const name of ['a', 'c']) await ask(name, 'forget');
  await ask('b', 'simulate', scenario);
  await until(`${scenario}: b says ${done}`, async () => {
    const events = await ask('b', 'events');
    return { ok: events.includes(done) && (await ask('b', 'state')) === 'connected', events };
  });
  const after = await ask('b', 'sid');
  if ((before === after) !== keeps) throw new Error(`${scenario}: sid ${before} became ${after}`);
  if (keeps && (await ask('a', 'events')).includes('participantDisconnected')) {
    throw new Error(`${scenario}: a resume was seen as a leave`);
  }
  await all(`${scenario}: all see all`, 30);
}

async function leave() {
  await ask('c', 'leave');
  await until('a and b see c leave', async () => {
    const others = [await ask('a', 'others'), await ask('b', 'others')];
    return { ok: others[0].join() === 'b' && others[1].join() === 'a', others };
  });
  await until('a still sees b', () => sees('a', 'b'));
}

await run('call', 170, async (browser) => {
  const stage = await serve();
  try {
    await join({ browser, url: stage.url });
    await shot(pages.a, 'call-three');
    await mute();
    await layers();
    await reconnect('signal-reconnect', 'reconnected', true);
    await reconnect('resume-reconnect', 'reconnected', false);
    await reconnect('full-reconnect', 'reconnected', false);
    await share();
    await leave();
    await shot(pages.a, 'call-two');
  } finally {
    stage.close();
  }
});
