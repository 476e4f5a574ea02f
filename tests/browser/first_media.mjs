// How long a participant in Chromium waits for media: node first_media.mjs URL TRIES
//
// a publishes a tone and a moving picture all the time. So often b joins anew in the same tab, and a line of
// JSON tells when it was connected, heard the first sound and saw the first picture, in ms since it began to
// connect; and by what it came. Certificates are taken as they are: the browser knows no authority of ours.

import { setTimeout as pause } from 'node:timers/promises';
import { Cast, COLOURS } from './cast.mjs';
import { chromium, perform, photograph, serve, token } from './stage.mjs';

const [url, tries] = process.argv.slice(2);

await perform('first media', 300, async () => {
  const stage = await serve();
  const browser = await chromium(['--ignore-certificate-errors']);
  try {
    const cast = new Cast(url, `first-media-${Date.now()}`, stage);
    await cast.enter(browser, 'a');
    await cast.ask('a', 'hum');
    await cast.ask('a', 'publish', COLOURS.a, { width: 640, height: 360 });
    await cast.enter(browser, 'b');
    await cast.hears('b', 'a');
    for (let n = 0; n < Number(tries); n += 1) {
      await cast.ask('b', 'leave');
      // A publisher is asked for a key frame once in a second: nobody is to come in another's shadow.
      await pause(1500);
      const came = await cast.ask('b', 'first', url, token(`b${n}`, cast.room));
      const [path] = await cast.ask('b', 'pairs');
      console.log(JSON.stringify({ ...came, path }));
    }
  } catch (error) {
    await photograph(browser, 'first-media');
    throw error;
  } finally {
    await browser.close();
    stage.close();
  }
});
