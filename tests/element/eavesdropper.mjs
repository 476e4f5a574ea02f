// Somebody with a good token and no keys, on the unmodified livekit-client.

import { createHash } from 'node:crypto';
import { serve, shot, tab, token, until } from '../browser/stage.mjs';

// LiveKit's `Encryption.Type`.
const [NONE, GCM] = [0, 1];

/** The name of a call's room at the SFU. */
function roomOf(matrixRoom) {
  const text = JSON.stringify([matrixRoom, 'm.call#ROOM']);
  return createHash('sha256').update(text).digest('base64').replaceAll('=', '');
}

/** What Eve learns of every camera; `room` is a global of her page. */
const cameras = (page) =>
  page.evaluate(() => {
    const all = [...room.remoteParticipants.values()].map(async (one) => {
      const { identity } = one;
      const camera = one.getTrackPublication('camera');
      return {
        identity,
        encryption: camera?.trackInfo?.encryption,
        bytes: (await camera?.track?.getReceiverStats())?.bytesReceived ?? 0,
        ...(await window.call.look(`${identity}-camera`)),
      };
    });
    return Promise.all(all);
  });

/** Chromium's make-believe camera: much green, and something that turns. */
const plain = ({ colour, moved }) => moved > 5 && colour[1] > 90 && colour[0] < 70 && colour[2] < 70;

/** In a plain room Eve sees everybody; in an encrypted one much comes and nothing can be seen. */
export async function overhear(browser, url, matrixRoom, { name, encrypted = false }) {
  const stage = await serve();
  const page = await tab(browser, 'Eve', stage.url);
  try {
    const told = token('eve', roomOf(matrixRoom));
    await page.evaluate((url, told) => window.call.join(url, told, 'Eve'), url, told);
    const what = encrypted ? 'Eve gets two encrypted pictures' : 'Eve sees two pictures';
    await until(what, async () => {
      const seen = await cameras(page);
      const ok = seen.length === 2 && seen.every((one) =>
        one.bytes > 30_000 && one.encryption === (encrypted ? GCM : NONE) && (encrypted || plain(one)));
      return { ok, seen };
    }, 60);
    const seen = await cameras(page);
    if (encrypted && seen.some(plain)) throw new Error(`Eve has no key and sees ${JSON.stringify(seen)}`);
    await shot(page, `element-${name}-overheard`);
  } finally {
    await page.browserContext().close();
    stage.close();
  }
}
