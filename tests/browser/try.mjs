// The page at /try, in two windows: node try.mjs URL
//
// What the page promises to this test: `#room` and `#name` are fields of a form; `#microphone`,
// `#camera`, `#screen`, `#leave` are buttons; each picture is a `.tile` with a `.name`, a `.silent`
// and a `video` that is hidden without a picture; `#status` tells how the call is; `#panel` holds
// the statistics, its table a row per stream.

import { run, shot, tab, until } from './stage.mjs';

const url = (process.argv[2] ?? 'http://127.0.0.1:7880').replace(/^ws/, 'http').replace(/\/$/, '');

/** Runs in the page before its own script: sockets can be cut, and the microphone always hums. */
function prepare() {
  const Original = window.WebSocket;
  window.sockets = [];
  window.WebSocket = class extends Original {
    constructor(...parts) {
      super(...parts);
      window.sockets.push(this);
    }
  };
  const devices = navigator.mediaDevices;
  const capture = devices.getUserMedia.bind(devices);
  devices.getUserMedia = async (wish) => {
    const stream = await capture(wish);
    for (const track of stream.getAudioTracks()) {
      const context = new AudioContext();
      const tone = new OscillatorNode(context, { frequency: 300 });
      const out = context.createMediaStreamDestination();
      tone.connect(out);
      tone.start();
      stream.removeTrack(track);
      stream.addTrack(out.stream.getAudioTracks()[0]);
    }
    return stream;
  };
}

/** A window on the page that joins by keyboard alone. */
async function join(browser, name, path) {
  const page = await tab(browser, name, 'about:blank');
  await page.evaluateOnNewDocument(prepare);
  await page.goto(url + path);
  await page.focus('#name');
  await page.$eval('#name', (field) => field.select());
  await page.keyboard.type(name);
  await page.keyboard.press('Enter');
  return page;
}

/** Every tile with what it says of itself; `moving`: its picture changes. */
const tiles = (page) =>
  page.evaluate(async () => {
    const all = [...document.querySelectorAll('.tile')].map((tile) => {
      const video = tile.querySelector('video');
      const text = (part) => tile.querySelector(part).textContent;
      const size = { width: video.videoWidth, height: video.videoHeight };
      const seen = !video.hidden && video.videoWidth > 0;
      const pen = seen && Object.assign(document.createElement('canvas'), size).getContext('2d');
      const grab = () => {
        pen.drawImage(video, 0, 0);
        return pen.getImageData(0, 0, size.width, size.height).data;
      };
      return { tile, name: text('.name'), silent: text('.silent'), seen, grab };
    });
    const first = all.map(({ seen, grab }) => seen && grab());
    await new Promise((resolve) => setTimeout(resolve, 500));
    return all.map(({ tile, name, silent, seen, grab }, n) => {
      const now = seen && grab();
      const moving = seen && first[n].some((value, i) => Math.abs(value - now[i]) > 40);
      return { name, silent, seen, moving, speaking: tile.classList.contains('speaking') };
    });
  });

/** Waits for a tile of this name that is as wanted. */
const tile = (what, page, name, wanted) =>
  until(what, async () => {
    const seen = await tiles(page);
    const one = seen.find((entry) => entry.name === name);
    return { ok: one && Object.entries(wanted).every(([key, value]) => one[key] === value), seen };
  });

const status = (page) => page.$eval('#status', (element) => element.textContent);
const inCall = async (page) => (await status(page)).startsWith('In the call');

/** The panel's rows: the stream's name -> its cells. */
const streams = (page) =>
  page.$$eval('#streams tr', (rows) =>
    rows.map((row) => Object.fromEntries([...row.children].map((c) => [c.dataset.label, c.textContent]))));

async function readsThePanel(page, name, other) {
  await until(`${name} reads the path, codecs, layer, rates and round-trip time`, async () => {
    const text = await page.$eval('#panel', (element) => element.innerText);
    const rows = await streams(page);
    const flows = (stream, codec, least) =>
      rows.some((row) => row.Stream === stream && row.Codec === codec && Number(row['kbit/s']) >= least
        && (codec === 'opus' || /^(low|medium|high)$/.test(row.Layer)));
    const ok = /host udp [\d.:]+\d/.test(text) && /\d ms/.test(text) && /AEAD/.test(text)
      && flows(`from ${other}, camera`, 'VP8', 20) && flows(`from ${other}, microphone`, 'opus', 5)
      && flows('to server, camera', 'VP8', 20) && flows('to server, microphone', 'opus', 5)
      && rows.every((row) => !row['Lost, last second'] || /%|nothing/.test(row['Lost, last second']));
    return { ok, text };
  });
}

async function muting(one, two) {
  await two.click('#microphone');
  await tile('one sees that Two is muted', one, 'Two', { silent: 'muted', speaking: false });
  await two.click('#camera');
  await tile('Two without a camera is no frozen picture', one, 'Two', { seen: false });
  await shot(one, 'try-camera-off');
  await two.click('#camera');
  await two.click('#microphone');
  await tile('Two is back', one, 'Two', { silent: '', moving: true, speaking: true });
}

async function sharing(one, two) {
  await two.click('#screen');
  await tile('one sees the screen of Two', one, 'Two: screen', { moving: true });
  await tile('and the face of Two', one, 'Two', { moving: true });
  await shot(one, 'try-screen');
  await two.click('#screen');
  await until('the screen goes', async () => (await tiles(one)).length === 2);
}

/** Which streams are shown: one that ends and comes again is another. */
const pictures = (page) =>
  page.$$eval('.tile video', (all) => all.map((video) => video.srcObject?.id));

async function reconnecting(one, two) {
  const before = await pictures(two);
  const during = await one.evaluate(() => {
    window.sockets.at(-1).close();
    return new Promise((resolve) => {
      new MutationObserver(() => resolve(document.getElementById('status').textContent))
        .observe(document.getElementById('status'), { childList: true, characterData: true, subtree: true });
    });
  });
  if (!during.startsWith('Connection lost')) throw new Error(`a lost connection is not told: ${during}`);
  await until('one is back', () => inCall(one));
  const sockets = await one.evaluate(() => window.sockets.map((socket) => socket.readyState));
  if (sockets.join() !== '3,1') throw new Error(`one new socket was enough: ${sockets}`);
  await one.click('#microphone');
  await tile('and what it says is heard', two, 'One', { silent: 'muted', moving: true });
  await tile('and it sees Two', one, 'Two', { moving: true });
  // A session taken up again is still the same participant.
  const kept = String(await pictures(two)) === String(before);
  if (!kept) throw new Error('a resumed participant must not leave and come');
}

async function onAPhone(page) {
  await page.setViewport({ width: 390, height: 844 });
  await until('the page fits a phone', () =>
    page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth));
  await shot(page, 'try-phone');
  await page.setViewport({ width: 1280, height: 800 });
}

await run('try', 150, async (browser) => {
  const one = await join(browser, 'One', '/try');
  // Below a prefix as behind a proxy.
  const two = await join(browser, 'Two', '/livekit/sfu/try');
  for (const [page, me, other] of [[one, 'One', 'Two'], [two, 'Two', 'One']]) {
    await tile(`${me} sees itself`, page, `${me} (you)`, { moving: true, silent: '' });
    await tile(`${me} sees ${other}`, page, other, { moving: true, silent: '' });
    await tile(`${me} sees that ${other} speaks`, page, other, { speaking: true });
    await tile(`${me} sees that it speaks`, page, `${me} (you)`, { speaking: true });
    await readsThePanel(page, me, other);
  }
  await shot(one, 'try-two');
  await muting(one, two);
  await sharing(one, two);
  await reconnecting(one, two);
  await onAPhone(one);
  await two.click('#leave');
  await until('one is alone again', async () => (await tiles(one)).length === 1);
  await until('and is told so', () => one.$eval('#alone', (element) => !element.hidden));
  await shot(one, 'try-one');
  if (!(await two.$('#entry:not([hidden])'))) throw new Error('Two may join again');
});
