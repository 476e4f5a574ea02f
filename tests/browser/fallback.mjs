// A call of two in Chromium, of which one is led to other ways, and remembered: node fallback.mjs URL

import { Cast, COLOURS } from './cast.mjs';
import { run, serve, until } from './stage.mjs';

const [url] = process.argv.slice(2);

await run('fallback', 120, async (browser) => {
  const stage = await serve();
  try {
    const cast = new Cast(url, `fallback-${Date.now()}`, stage);
    const enter = async (name) => {
      await cast.enter(browser, name);
      await cast.ask(name, 'publish', COLOURS[name]);
    };
    const comesBy = async (what, wanted) => {
      await until(`${what}: a comes by ${wanted}`, async () => {
        const paths = await cast.ask('a', 'paths');
        return { ok: paths.length > 0 && paths.every((path) => wanted.test(path)), paths };
      }, 30);
      await cast.allSee(`${what}: both see each other`, 30);
    };
    await enter('a');
    await enter('b');
    await comesBy('at first', / udp$/);
    for (const [scenario, wanted] of [['force-tcp', /^(host|prflx) tcp$/], ['force-tls', /^relay tcp$/]]) {
      await cast.ask('a', 'simulate', scenario);
      await comesBy(scenario, wanted);
      await cast.ask('a', 'leave');
      await cast.pages.a.close();
      await enter('a');
      await comesBy(`${scenario}, and back again`, wanted);
    }
  } finally {
    stage.close();
  }
});
