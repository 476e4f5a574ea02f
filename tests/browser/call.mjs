// A call of three in Chromium on the unmodified livekit-client: node call.mjs URL [mixed | moved]
//
// All on the newest client; or `mixed`: it with one and with two peer connections (`/rtc/v1` and
// `/rtc`), and one from before the single peer connection. `moved`: as soon as they talk, the server sends
// all of them back to come by another address of it.

import { Cast, COLOURS } from './cast.mjs';
import { conversation, greeting, writesAgain } from './conversation.mjs';
import { run, serve, until } from './stage.mjs';

const [url = 'ws://127.0.0.1:7880', kind = 'newest'] = process.argv.slice(2);
const mixed = kind === 'mixed';
const GENERATIONS = {
  a: {},
  b: mixed ? { singlePeerConnection: false } : {},
  c: mixed ? { client: 'dual' } : {},
};

async function join(cast, browser) {
  for (const [name, how] of Object.entries(GENERATIONS)) {
    await cast.enter(browser, name, how);
    // Chromium's own microphone beeps: too short to count as speech each time on a busy machine.
    await cast.ask(name, 'hum');
    await cast.ask(name, 'publish', COLOURS[name]);
  }
  await cast.allSee('each sees two moving pictures in the right colours');
  await cast.allHear();
  await until('a learns that b and c speak', async () => {
    const speakers = await cast.ask('a', 'speakers');
    return { ok: speakers.includes('b') && speakers.includes('c'), speakers };
  });
}

/** Nothing else is to happen while they come by another address: whoever resumes may lose a word. */
async function move(cast) {
  for (const name of cast.names) {
    await until(`${name} has come back`, async () => {
      const events = await cast.ask(name, 'events');
      return { ok: events.includes('reconnected') && (await cast.ask(name, 'state')) === 'connected', events };
    }, 40);
  }
  await cast.allSee('by the other address all see all', 30);
  await cast.allHear();
}

async function mute(cast) {
  await cast.ask('b', 'mute', true);
  await until('a learns that b is muted', () => cast.ask('a', 'muted', 'b', 'microphone'));
  await until('a hears b no more', async () => (await cast.ask('a', 'loudness', 'b')) < 0.01);
  await cast.ask('b', 'muteCamera', true);
  await until('a learns that the camera of b is off', () => cast.ask('a', 'muted', 'b', 'camera'));
  await cast.ask('b', 'mute', false);
  await cast.ask('b', 'muteCamera', false);
  await cast.hears('a', 'b');
  await until('a sees b again', () => cast.sees('a', 'b'));
}

/** The layer follows the size of the element; unwanted layers are not even encoded. */
async function layers(cast) {
  await cast.ask('a', 'resize', 'b-camera', 960, 540);
  await cast.width('a large tile gets the large layer', 'a', 'b', 960);
  await cast.ask('a', 'resize', 'b-camera', 160, 90);
  await cast.ask('c', 'resize', 'b-camera', 160, 90);
  await cast.width('a small tile gets the small layer', 'a', 'b', 320);
  await until('b stops encoding what nobody watches', async () => {
    const active = await cast.ask('b', 'layers');
    return { ok: active.at(0) && !active.at(-1), active };
  }, 30);
  await cast.ask('a', 'resize', 'b-camera', 960, 540);
  await until('b encodes it again', async () => (await cast.ask('b', 'layers')).at(-1));
  await cast.width('and it arrives', 'a', 'b', 960);
  await cast.ask('a', 'resize', 'b-camera', 400, 225);
  await cast.ask('c', 'resize', 'b-camera', 400, 225);
}

/** More remote videos than the first offer had room for. */
async function share(cast) {
  await cast.ask('a', 'share', COLOURS.share);
  await cast.ask('b', 'share');
  await until('c sees the picture a shares', () => cast.sees('c', 'a', 'screen_share', COLOURS.share));
  await until('c sees the screen b shares, its fourth video', async () => {
    const seen = await cast.ask('c', 'look', 'b-screen_share');
    return { ok: seen.width > 0, ...seen };
  });
  await cast.allSee('and still the cameras');
  await cast.shot('c', `${kind}-four-videos`);
}

async function reconnect(cast, name, scenario, keeps) {
  const before = await cast.ask(name, 'sid');
  for (const each of cast.names) await cast.ask(each, 'forget');
  await cast.ask(name, 'simulate', scenario);
  await until(`${scenario}: ${name} is back`, async () => {
    const events = await cast.ask(name, 'events');
    return { ok: events.includes('reconnected') && (await cast.ask(name, 'state')) === 'connected', events };
  });
  const after = await cast.ask(name, 'sid');
  if ((before === after) !== keeps) throw new Error(`${scenario}: sid ${before} became ${after}`);
  const other = cast.names.find((each) => each !== name);
  if (keeps && (await cast.ask(other, 'events')).includes('participantDisconnected')) {
    throw new Error(`${scenario}: a resume was seen as a leave`);
  }
  await cast.allSee(`${scenario}: all see all`, 30);
}

async function leave(cast) {
  await cast.ask('c', 'leave');
  await until('a and b see c leave', async () => {
    const others = [await cast.ask('a', 'others'), await cast.ask('b', 'others')];
    return { ok: others[0].join() === 'b' && others[1].join() === 'a', others };
  });
  await until('a still sees b', () => cast.sees('a', 'b'));
  await cast.shot('a', `${kind}-two`);
}

/** One whom the newer path fails returns by the older one. */
async function comeBack(cast, browser) {
  await cast.enter(browser, 'c', { failV1: true });
  await cast.ask('c', 'publish', COLOURS.c);
  await cast.allSee('c is back on the older path, and all see all');
  await greeting(cast, 'c', 'back again');
}

await run(kind, 240, async (browser) => {
  const stage = await serve();
  try {
    const cast = new Cast(url, `${kind}-${Date.now()}`, stage);
    await join(cast, browser);
    await cast.shot('a', `${kind}-three`);
    if (kind === 'moved') await move(cast);
    await mute(cast);
    if (!mixed) await layers(cast);
    await reconnect(cast, 'b', 'signal-reconnect', true);
    if (mixed) await reconnect(cast, 'c', 'signal-reconnect', true);
    await conversation(cast);
    await reconnect(cast, 'b', 'resume-reconnect', false);
    await reconnect(cast, mixed ? 'c' : 'b', 'full-reconnect', false);
    await writesAgain(cast, mixed ? 'c' : 'b');
    await share(cast);
    await leave(cast);
    if (mixed) await comeBack(cast, browser);
  } finally {
    stage.close();
  }
});
