// A call of two in Chromium over a line that begins to lose much of UDP: node lossy.mjs URL PATH
//
// When each sees and hears the other by UDP it says `ready`, and waits for a line at its standard input. From
// then on each must come by a pair of candidates that begins with PATH (`prflx tcp`), as the same participant,
// and be seen and heard.

import { Cast, COLOURS } from './cast.mjs';
import { run, serve, until } from './stage.mjs';

const [url, ...path] = process.argv.slice(2);
const wanted = path.join(' ');

await run('lossy', 270, async (browser) => {
  const stage = await serve();
  try {
    const cast = new Cast(url, `lossy-${Date.now()}`, stage);
    for (const name of ['a', 'b']) {
      await cast.enter(browser, name);
      await cast.ask(name, 'publish', COLOURS[name], { width: 320, height: 180 });
    }
    const goBy = (path, seconds) =>
      until(`each goes by ${path}`, async () => {
        const pairs = (await Promise.all(cast.names.map((name) => cast.ask(name, 'pairs')))).flat();
        return { ok: pairs.length >= 2 && pairs.every((pair) => pair.startsWith(path)), pairs };
      }, seconds);
    await cast.allSee('each sees the other', 30);
    await cast.allHear();
    await goBy('prflx udp');
    const sids = () => Promise.all(cast.names.map((name) => cast.ask(name, 'sid')));
    const before = await sids();
    for (const name of cast.names) await cast.ask(name, 'forget');
    console.log('ready');
    await new Promise((done) => process.stdin.once('data', done));
    if (wanted.endsWith('tcp')) {
      // Chromium may go by TCP for some seconds of its own accord, and come back: then it takes longer.
      for (const name of cast.names) {
        const done = async () => (await cast.ask(name, 'events')).includes('reconnected');
        await until(`${name} has taken his session up again`, done, 90);
      }
    }
    await goBy(wanted, 30);
    for (const name of cast.names) await cast.ask(name, 'hush');
    await cast.allHear();
    // Over UDP hardly a picture is whole any more.
    if (wanted.endsWith('tcp')) await cast.allSee('each sees the other again', 30);
    if (JSON.stringify(await sids()) !== JSON.stringify(before)) throw new Error('somebody joined anew');
    for (const name of cast.names) {
      const events = await cast.ask(name, 'events');
      console.log(`  ${name}: ${events}`);
      if (events.includes('participantDisconnected')) throw new Error(`to ${name} somebody left`);
    }
  } finally {
    stage.close();
  }
});
