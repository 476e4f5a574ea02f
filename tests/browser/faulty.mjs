// A call of two on a server that fails on purpose: node faulty.mjs URL METRICS
//
// Connections break, threads stall, queues are full: until each point of failure was met the two
// mute, unmute and resize. Clients may reconnect as often as they like; nobody may be thrown out for
// good, and in the end each sees and hears the other.

import { setTimeout as pause } from 'node:timers/promises';
import { Cast, COLOURS } from './cast.mjs';
import { run, serve, until } from './stage.mjs';

const [url, metrics] = process.argv.slice(2);
const POINTS = [
  'udp_send_full', 'udp_send_error', 'udp_short_read', 'worker_stall', 'clock_jump', 'mailbox_full',
  'room_events_full', 'session_messages_full', 'signal_outbox_full', 'websocket_break', 'accept_error',
];

/** How often each point has failed. */
async function struck() {
  const page = await (await fetch(metrics)).text();
  const lines = page.matchAll(/^foci_faults_injected_total\{.*point="(\w+)".*\} (\d+)$/gm);
  return Object.fromEntries([...lines].map(([, point, count]) => [point, Number(count)]));
}

/** Comes in, however often the door is slammed. */
async function enter(cast, browser, name) {
  await until(`${name} is in`, async () => {
    try {
      await cast.enter(browser, name);
      await cast.ask(name, 'publish', COLOURS[name], { width: 640, height: 360 });
      return true;
    } catch (error) {
      await cast.pages[name]?.close();
      return { ok: false, error: error.message };
    }
  }, 60);
}

/** What people do; a client that is reconnecting refuses. */
async function fidget(cast, turn) {
  const [name, other] = turn % 2 ? ['a', 'b'] : ['b', 'a'];
  const acts = [
    () => cast.ask(name, 'mute', turn % 4 < 2),
    () => cast.ask(name, 'muteCamera', turn % 4 < 2),
    () => cast.ask(name, 'resize', `${other}-camera`, turn % 3 ? 160 : 640, turn % 3 ? 90 : 360),
  ];
  for (const act of acts) {
    await Promise.race([act(), pause(1000)]).catch(() => {});
  }
}

/**
 * Switches a camera on again that livekit-client gave up: it asks once to publish after a full
 * reconnect, and where that request broke with its connection nobody asks again but the user.
 */
async function camera(cast, name, gone) {
  if (await cast.ask(name, 'hasCamera')) {
    delete gone[name];
    return;
  }
  gone[name] ??= Date.now();
  if (Date.now() - gone[name] < 15_000) return;
  console.log(`  ${name} switches the camera on again, its client gave it up`);
  delete gone[name];
  await Promise.race([cast.ask(name, 'publish', COLOURS[name], { width: 640, height: 360 }), pause(10_000)]);
}

async function back(cast) {
  const gone = {};
  await until('each sees and hears the other again', async () => {
    const seen = {};
    for (const name of cast.names) {
      const other = name === 'a' ? 'b' : 'a';
      try {
        await camera(cast, name, gone);
        await Promise.race([cast.ask(name, 'mute', false), pause(1000)]);
        await Promise.race([cast.ask(name, 'muteCamera', false), pause(1000)]);
        seen[name] = { ...(await cast.sees(name, other)), loud: await cast.ask(name, 'loudness', other) };
      } catch (error) {
        seen[name] = { ok: false, error: error.message };
      }
    }
    return { ok: Object.values(seen).every(({ ok, loud }) => ok && loud > 0.05), seen };
    // A client whose new connection breaks at once notices after fifteen seconds, and it may break again.
  }, 300);
}

await run('faulty', 600, async (browser) => {
  const stage = await serve();
  try {
    const cast = new Cast(url, `faulty-${Date.now()}`, stage);
    for (const name of ['a', 'b']) await enter(cast, browser, name);
    let turn = 0;
    await until('every point has failed', async () => {
      await fidget(cast, turn++);
      const met = await struck();
      const missing = POINTS.filter((point) => !met[point]);
      return { ok: missing.length === 0, missing, met };
    }, 120);
    await back(cast);
    for (const name of cast.names) {
      const events = await cast.ask(name, 'events');
      const count = (event) => events.filter((each) => each === event).length;
      console.log(`  ${name}: ${count('reconnecting') + count('signalReconnecting')} reconnects begun, ${count('reconnected')} done`);
      if (count('disconnected')) throw new Error(`${name} was thrown out`);
    }
    console.log(`  failures: ${JSON.stringify(await struck())}`);
  } finally {
    stage.close();
  }
});
