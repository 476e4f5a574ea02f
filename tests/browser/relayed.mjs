// A call of two in Chromium that may use nothing but relays: node relayed.mjs URL udp|tcp|tls

import { Cast, COLOURS } from './cast.mjs';
import { conversation } from './conversation.mjs';
import { run, serve, until } from './stage.mjs';

const [url, transport] = process.argv.slice(2);

await run(`relayed-${transport}`, 90, async (browser) => {
  const stage = await serve();
  try {
    const cast = new Cast(url, `relayed-${transport}-${Date.now()}`, stage);
    for (const name of ['a', 'b', 'c']) {
      const started = Date.now();
      const dual = name === 'c' ? { singlePeerConnection: false } : {};
      await cast.enter(browser, name, { rtcConfig: { iceTransportPolicy: 'relay' }, ...dual });
      await cast.ask(name, 'publish', COLOURS[name]);
      console.log(`${name} is in after ${Date.now() - started} ms`);
    }
    await cast.allSee('all see each other through the relay');
    await cast.allHear();
    await conversation(cast);
    for (const name of cast.names) {
      await until(`${name} sends by a relay over ${transport} alone`, async () => {
        const paths = await cast.ask(name, 'paths');
        return { ok: paths.length > 0 && paths.every((path) => path === `relay ${transport}`), paths };
      });
    }
  } finally {
    stage.close();
  }
});
