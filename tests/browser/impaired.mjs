// Two in Chromium over a bad road: node impaired.mjs URL
//
// 5 % of the packets of each direction are lost, so that a tenth of what one sends does not reach the
// other; then nothing passes for two seconds; then the NAT forgets. What a person would notice is
// measured: pictures that stand still, voices that break off.

import { setTimeout as pause } from 'node:timers/promises';
import { Cast, COLOURS } from './cast.mjs';
import { road } from './road.mjs';
import { run, serve, until } from './stage.mjs';

const [url] = process.argv.slice(2);
/** No picture and no voice may be away for longer, in ms. */
const FROZEN_MOST = 2000;
const RECOVERED_WITHIN = 3000;
const OUTAGE = 2000;

const every = (cast, what, ...args) =>
  Promise.all(cast.names.map((name) => cast.pages[name].evaluate((what, args) => window.watch[what](...args), what, args)));

/** Lets time pass, and judges what each saw and heard in it. */
async function spell(cast, what, ms) {
  await every(cast, 'mark');
  await pause(ms);
  for (const { told, own } of await every(cast, 'told')) {
    console.log(`  ${what}: ${JSON.stringify(told)}, the page itself ${own}`);
    for (const [id, { longest }] of Object.entries(told)) {
      // The page looks each 50 ms; what it stood still for longer is the machine's.
      const allowed = FROZEN_MOST + Math.max(0, own - 100);
      if (longest > allowed) throw new Error(`${what}: ${id} was away for ${longest} ms`);
    }
  }
}

/** Nothing arrives for a while; then all must be back in time. */
async function outage(cast) {
  const broke = Date.now();
  await road(`outage ${OUTAGE}`);
  // What was under way arrives yet.
  await pause(300);
  const { arrived } = await road('count');
  await pause(OUTAGE - 500);
  const passed = (await road('count')).arrived - arrived;
  // A busy machine may have asked when it was over.
  if (passed && Date.now() - broke < OUTAGE) throw new Error(`${passed} passed during the outage`);
  await pause(200);
  await every(cast, 'mark');
  const began = Date.now();
  await until('all is back after the outage', async () => {
    const told = Object.assign({}, ...(await every(cast, 'told')).map(({ told }) => told));
    return { ok: Object.values(told).every(({ count }) => count > 2), ...told };
  });
  const took = Date.now() - began;
  if (took > RECOVERED_WITHIN) throw new Error(`it took ${took} ms`);
}

await run('impaired', 150, async (browser) => {
  const stage = await serve();
  try {
    const cast = new Cast(url, `impaired-${Date.now()}`, stage);
    for (const name of ['a', 'b']) {
      await cast.enter(browser, name);
      await cast.ask(name, 'publish', COLOURS[name], { width: 640, height: 360 });
    }
    await cast.allSee('each sees the other');
    await cast.allHear();
    for (const name of cast.names) {
      const others = cast.names.filter((other) => other !== name);
      await cast.pages[name].evaluate((others) => window.watch.begin(others), others);
    }
    await spell(cast, 'a good road', 3000);
    await road('bad');
    await spell(cast, 'a bad road', 20_000);
    await outage(cast);
    await spell(cast, 'after the outage', 5000);
    // More than once: a check may be the first to come by the new port, and then nobody need be looked for.
    for (let n = 0; n < 4; n += 1) {
      await road('rebind');
      await spell(cast, 'after the NAT has forgotten', 3000);
    }
    await cast.allSee('each still sees the other');
    await cast.shot('a', 'impaired');
    console.log(`  the road: ${JSON.stringify(await road('count'))}`);
  } finally {
    stage.close();
  }
});
