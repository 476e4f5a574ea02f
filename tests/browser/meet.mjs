// A call of two in browsers, each of which must come by one path: node meet.mjs URL KINDS PATH...
//
// KINDS are `chromium` or `firefox` for a and b, as `firefox,chromium`. Where media flows, each tells its
// pair of candidates; what begins with a PATH (`prflx udp`, `relay udp by tls`) is right.

import { Cast, COLOURS } from './cast.mjs';
import { chromium, firefox, perform, photograph, serve, until } from './stage.mjs';

const LAUNCH = { chromium, firefox };
const [url, kinds, ...rest] = process.argv.slice(2);
const paths = rest.join(' ').split(',');

await perform(`meet ${kinds}`, 100, async () => {
  const stage = await serve();
  const browsers = {};
  try {
    const cast = new Cast(url, `meet-${Date.now()}`, stage);
    for (const [n, kind] of kinds.split(',').entries()) {
      browsers[kind] ??= await LAUNCH[kind]();
      const name = 'ab'[n];
      await cast.enter(browsers[kind], name);
      await cast.ask(name, 'publish', COLOURS[name], { width: 640, height: 360 });
    }
    await cast.allSee('each sees the other', 30);
    await cast.allHear();
    for (const name of cast.names) {
      const goes = await until(`${name} goes by ${paths.join(' or ')}`, async () => {
        const pairs = await cast.ask(name, 'pairs');
        const right = (pair) => paths.some((path) => pair.startsWith(path));
        return { ok: pairs.length > 0 && pairs.every(right), pairs };
      });
      console.log(`  ${name} goes from ${goes.pairs.join('; ')}`);
    }
    // Whoever only vanishes may be asked something yet.
    for (const name of cast.names) await cast.ask(name, 'leave');
  } catch (error) {
    for (const browser of Object.values(browsers)) await photograph(browser, 'meet');
    throw error;
  } finally {
    for (const browser of Object.values(browsers)) await browser.close();
    stage.close();
  }
});
