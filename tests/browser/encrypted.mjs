// End-to-end encryption by the unmodified livekit-client and its worker: node encrypted.mjs URL
//
// a publishes camera and screen in VP8, b in H264, each in simulcast, all encrypted under one secret.
// Each decrypts the other, in large and in small; eve, who has another secret, sees and hears
// nothing, though the server forwards to her as well.

import { setTimeout as pause } from 'node:timers/promises';
import { Cast, COLOURS } from './cast.mjs';
import { greeting } from './conversation.mjs';
import { run, serve, until } from './stage.mjs';

const url = process.argv[2] ?? 'ws://127.0.0.1:7880';
const SECRET = 'a secret between a and b';
const SHARED = { a: '#c0c010', b: '#10c0c0' };
const CODECS = { a: 'vp8', b: 'h264' };

async function publish(cast, name) {
  const videoCodec = CODECS[name];
  await cast.ask(name, 'publish', COLOURS[name], { width: 640, height: 360, videoCodec });
  await cast.ask(name, 'share', SHARED[name], { simulcast: true, videoCodec });
}

async function seeEachOther(cast) {
  for (const [viewer, publisher] of [['a', 'b'], ['b', 'a']]) {
    await until(`${viewer} sees the camera of ${publisher}`, () => cast.sees(viewer, publisher), 30);
    await until(`${viewer} sees the screen of ${publisher}`, () =>
      cast.sees(viewer, publisher, 'screen_share', SHARED[publisher]), 30);
    await cast.hears(viewer, publisher);
  }
}

/** The codec is the one asked for, and the server chooses among its layers without reading them. */
async function layers(cast, viewer, publisher) {
  const codec = await cast.ask(viewer, 'codec', publisher);
  if (codec !== `video/${CODECS[publisher].toUpperCase()}`) throw new Error(`${publisher} sends ${codec}`);
  await cast.ask(viewer, 'resize', `${publisher}-camera`, 640, 360);
  await cast.width(`${codec}: a large tile gets the large layer`, viewer, publisher, 640);
  await cast.ask(viewer, 'resize', `${publisher}-camera`, 160, 90);
  await cast.width(`${codec}: a small tile gets the small layer`, viewer, publisher, 320);
  await cast.ask(viewer, 'resize', `${publisher}-camera`, 400, 225);
}

/** Data reaches her, but neither a picture nor a sound nor a word. */
async function eavesdrop(cast) {
  await until('eve gets packets of every track', async () => {
    const got = await cast.ask('eve', 'received');
    return { ok: got.length === 6 && got.every(({ packets }) => packets > 20), got };
  });
  await cast.shot('eve', 'encrypted-eve');
  // From the first question on it is metered.
  for (const publisher of ['a', 'b']) await cast.ask('eve', 'loudness', publisher);
  await pause(1100);
  for (const publisher of ['a', 'b']) {
    const seen = await cast.ask('eve', 'look', `${publisher}-camera`);
    if (seen.moved) throw new Error(`eve sees ${publisher}: ${JSON.stringify(seen)}`);
    const loud = await cast.ask('eve', 'loudness', publisher);
    if (loud > 0.01) throw new Error(`eve hears ${publisher}: ${loud}`);
  }
}

await run('encrypted', 240, async (browser) => {
  const stage = await serve();
  try {
    const cast = new Cast(url, `encrypted-${Date.now()}`, stage);
    await cast.enter(browser, 'a', { secret: SECRET });
    await cast.enter(browser, 'b', { secret: SECRET });
    await publish(cast, 'a');
    await publish(cast, 'b');
    await seeEachOther(cast);
    await layers(cast, 'a', 'b');
    await layers(cast, 'b', 'a');
    await cast.enter(browser, 'eve', { secret: 'a guess' });
    await eavesdrop(cast);
    await cast.shot('a', 'encrypted-a');
    await cast.shot('b', 'encrypted-b');
  } finally {
    stage.close();
  }
});
