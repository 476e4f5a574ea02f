// Two tabs of a stock Firefox, of which c has two peer connections, and a Chromium in one call:
// node firefox.mjs URL

import { Cast, COLOURS } from './cast.mjs';
import { greeting } from './conversation.mjs';
import { firefox, run, serve, until } from './stage.mjs';

const url = process.argv[2] ?? 'ws://127.0.0.1:7880';

await run('firefox', 240, async (browser) => {
  const stage = await serve();
  const fox = await firefox();
  try {
    const cast = new Cast(url, `firefox-${Date.now()}`, stage);
    await cast.enter(fox, 'a');
    await cast.enter(browser, 'b');
    await cast.enter(fox, 'c', { client: 'dual' });
    for (const name of cast.names) await cast.ask(name, 'publish', COLOURS[name]);
    await cast.allSee('all see each other', 30);
    await cast.allHear();
    await cast.shot('a', 'firefox-sees');
    await cast.shot('b', 'firefox-is-seen');
    for (const name of cast.names) await greeting(cast, name, `hello from ${name}`);
    await cast.resume('a');
    await cast.resume('c');
    await cast.ask('a', 'leave');
    await until('b sees a leave', async () => (await cast.ask('b', 'others')).join() === 'c');
  } finally {
    await fox.close();
    stage.close();
  }
});
