// Chromium (a) and Firefox (b) with one peer connection, and one of them (c) with two, in a call by nothing
// but relays: node relayed.mjs URL udp|tcp|tls PORT chromium|firefox

import { Cast, COLOURS } from './cast.mjs';
import { conversation } from './conversation.mjs';
import { firefox, run, serve, until } from './stage.mjs';

const [url, transport, port, dual] = process.argv.slice(2);
const [scheme, over] = transport === 'tls' ? ['turns', 'tcp'] : ['turn', transport];

/** What the server says of its relays: this port, and no other way to it. */
async function told(cast, name) {
  const relays = await cast.ask(name, 'relays');
  const right = (relay) => relay.startsWith(`${scheme}:`) && relay.endsWith(`:${port}?transport=${over}`);
  if (!relays.length || !relays.every(right)) throw new Error(`${name} is told of ${relays}`);
}

async function enter(cast, name, browser, options = {}) {
  const started = Date.now();
  await cast.enter(browser, name, { rtcConfig: { iceTransportPolicy: 'relay' }, ...options });
  await cast.ask(name, 'publish', COLOURS[name]);
  console.log(`${name} is in after ${Date.now() - started} ms`);
  await told(cast, name);
}

/** By the relay alone, and not by a path that was found besides. */
async function onlyByRelay(cast) {
  for (const name of cast.names) {
    await until(`${name} sends by a relay over ${transport} alone`, async () => {
      const paths = await cast.ask(name, 'paths');
      const all = paths.length === (name === 'c' ? 2 : 1);
      return { ok: all && paths.every((path) => path === `relay ${transport}`), paths };
    });
  }
}

await run(`relayed-${transport}`, 180, async (browser) => {
  const stage = await serve();
  const starting = firefox();
  try {
    const cast = new Cast(url, `relayed-${transport}-${Date.now()}`, stage);
    await enter(cast, 'a', browser);
    const fox = await starting;
    await enter(cast, 'b', fox);
    await enter(cast, 'c', dual === 'firefox' ? fox : browser, { singlePeerConnection: false });
    await cast.allSee('all see each other through the relay', 30);
    await cast.allHear();
    await conversation(cast);
    await onlyByRelay(cast);
    // With credentials anew, and relays anew while those of before are still there.
    await cast.resume('c');
    await onlyByRelay(cast);
  } finally {
    await (await starting).close();
    stage.close();
  }
});
