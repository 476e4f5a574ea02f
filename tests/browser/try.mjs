// The page at /try, in two windows: node try.mjs URL
//
// What the page promises to this test: `#join`, `#mic`, `#camera`, `#share`, `#leave` are buttons;
// each remote or own video is a `.tile video`; `#panel` is the text of the statistics.

import { run, shot, tab, until } from './stage.mjs';

const url = (process.argv[2] ?? 'http://127.0.0.1:7880').replace(/^ws/, 'http').replace(/\/$/, '');

/** How many tiles show a moving picture. */
const moving = (page) =>
  page.evaluate(async () => {
    const videos = [...document.querySelectorAll('.tile video')].filter((v) => v.videoWidth > 0);
    const pens = videos.map((video) => {
      const size = { width: video.videoWidth, height: video.videoHeight };
      return Object.assign(document.createElement('canvas'), size).getContext('2d');
    });
    const grab = () =>
      videos.map((video, n) => {
        pens[n].drawImage(video, 0, 0);
        return pens[n].getImageData(0, 0, video.videoWidth, video.videoHeight).data;
      });
    const first = grab();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const second = grab();
    const differ = (n) => first[n].some((value, i) => Math.abs(value - second[n][i]) > 40);
    return videos.filter((_, n) => differ(n)).length;
  });

const panel = (page) => page.$eval('#panel', (element) => element.innerText);

await run('try', 60, async (browser) => {
  const one = await tab(browser, 'one', `${url}/try`);
  const two = await tab(browser, 'two', `${url}/try`);
  await one.click('#join');
  await two.click('#join');
  for (const [name, page] of [['one', one], ['two', two]]) {
    await until(`${name} sees itself and the other`, async () => (await moving(page)) >= 2);
    await until(`${name} reads codec, candidates and round-trip time`, async () => {
      const text = await panel(page);
      return { ok: /vp8/i.test(text) && /opus/i.test(text) && /udp/i.test(text) && /\d\s*ms/.test(text), text };
    });
  }
  await shot(one, 'try-two');
  await two.click('#leave');
  await until('one is alone again', async () => (await moving(one)) === 1);
  await shot(one, 'try-one');
});
