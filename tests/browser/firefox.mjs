// A stock Firefox and a Chromium in one call: node firefox.mjs URL

import { Cast, COLOURS } from './cast.mjs';
import { firefox, run, serve, until } from './stage.mjs';

const url = process.argv[2] ?? 'ws://127.0.0.1:7880';

async function resume(cast, scenario) {
  for (const name of cast.names) await cast.ask(name, 'forget');
  await cast.ask('a', 'simulate', scenario);
  await until(`${scenario}: Firefox is back`, async () => {
    const events = await cast.ask('a', 'events');
    return { ok: events.includes('reconnected') && (await cast.ask('a', 'state')) === 'connected', events };
  });
  await cast.allSee(`${scenario}: both see each other`, 30);
}

await run('firefox', 170, async (browser) => {
  const stage = await serve();
  const fox = await firefox();
  try {
    const cast = new Cast(url, `firefox-${Date.now()}`, stage);
    await cast.enter(fox, 'a');
    await cast.enter(browser, 'b');
    for (const name of cast.names) await cast.ask(name, 'publish', COLOURS[name]);
    await cast.allSee('Firefox and Chromium see each other', 30);
    await cast.allHear();
    await cast.shot('a', 'firefox-sees');
    await cast.shot('b', 'firefox-is-seen');
    await resume(cast, 'signal-reconnect');
    await cast.allHear();
    await cast.ask('a', 'leave');
    await until('b sees Firefox leave', async () => (await cast.ask('b', 'others')).length === 0);
  } finally {
    await fox.close();
    stage.close();
  }
});
