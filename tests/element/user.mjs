// One user of Element Call in a window of its own: what she does, and what she sees and hears.

import { homeserver } from './matrix.mjs';
import { tab, until } from '../browser/stage.mjs';

/** Runs in every page and frame before its own script. */
function prepare(session) {
  window.foci = { session, connections: [] };
  const Original = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Original {
    constructor(...parts) {
      super(...parts);
      window.foci.connections.push(this);
    }
  };
  // about:blank has no storage.
  if (location.protocol !== 'http:') return;
  const { user_id, device_id, access_token } = session;
  const entry = { user_id, device_id, access_token, passwordlessUser: false };
  localStorage.setItem('matrix-auth-store', JSON.stringify(entry));
}

/** Two looks at every tile: whose it is, its size, what colour, how many of its pixels moved. */
async function look() {
  const find = (part, name) => part.querySelector(`[data-testid="${name}"]`);
  const tiles = [...document.querySelectorAll('[data-testid="videoTile"]')].map((tile) => {
    const video = find(tile, 'video');
    const canvas = Object.assign(document.createElement('canvas'), { width: 96, height: 54 });
    const pen = canvas.getContext('2d', { willReadFrequently: true });
    const grab = () => {
      pen.drawImage(video, 0, 0, 96, 54);
      return pen.getImageData(0, 0, 96, 54).data;
    };
    const seen = video?.videoWidth > 0 && tile.dataset.videoEnabled === 'true';
    const name = find(tile, 'name_tag')?.textContent ?? '';
    return { name, video, seen, grab, first: seen && grab() };
  });
  await new Promise((resolve) => setTimeout(resolve, 500));
  return tiles.map(({ name, video, seen, grab, first }) => {
    const now = seen && grab();
    let moved = 0;
    const sums = [0, 0, 0];
    for (let i = 0; seen && i < now.length; i += 4) {
      const by = (n) => Math.abs(first[i + n] - now[i + n]);
      if (by(0) + by(1) + by(2) > 60) moved += 1;
      for (const n of [0, 1, 2]) sums[n] += now[i + n];
    }
    const colour = sums.map((sum) => Math.round(sum / (96 * 54)));
    return { name, seen, moved, colour, width: video?.videoWidth ?? 0 };
  });
}

/** The energy of the sound that Element Call plays from others, as decoded, in one second. */
async function listen() {
  const energy = async () => {
    const played = new Set(
      [...document.querySelectorAll('audio')]
        .flatMap((element) => element.srcObject?.getAudioTracks() ?? [])
        .map((track) => track.id),
    );
    let sum = 0;
    for (const connection of window.foci.connections) {
      if (connection.connectionState === 'closed') continue;
      for (const entry of (await connection.getStats()).values()) {
        if (entry.kind === 'audio' && played.has(entry.trackIdentifier)) sum += entry.totalAudioEnergy ?? 0;
      }
    }
    return sum;
  };
  const before = await energy();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  return (await energy()) - before;
}

export class User {
  /** A window, not yet anywhere. */
  static async open(browser, session) {
    const user = new User();
    user.session = session;
    user.name = session.displayName;
    user.page = await tab(browser, user.name, 'about:blank');
    await user.page.evaluateOnNewDocument(prepare, session);
    // A busy machine takes its time to start an application.
    user.page.setDefaultNavigationTimeout(90_000);
    user.lines = [];
    user.page.on('console', (line) => user.lines.push(`${line.type()} ${line.text()}`));
    user.page.on('requestfailed', (request) => {
      user.lines.push(`failed ${request.method()} ${request.url()} ${request.failure()?.errorText}`);
    });
    return user;
  }

  close() {
    return this.page.browserContext().close();
  }

  /** Element Call as an application of its own, in the lobby of a room. */
  async visit(site, room) {
    await this.page.goto(`${site.url}/room#?${new URLSearchParams({ roomId: room })}`);
    this.frame = this.page.mainFrame();
  }

  /** Opens the client at `host`, and is online with it. */
  async online(host) {
    await this.page.goto(host.url);
    await this.page.evaluate(() => window.host.ready);
  }

  /** Element Call as a widget of the client she is online with, in the lobby of a room. */
  async show(site, host, room) {
    const url = `${site.url}/ec/#?${new URLSearchParams({
      widgetId: 'call',
      parentUrl: host.url,
      userId: this.session.user_id,
      deviceId: this.session.device_id,
      roomId: room,
      baseUrl: homeserver,
      intent: 'join_existing',
      perParticipantE2EE: 'true',
    })}`;
    await this.page.evaluate((room, url) => window.host.show(room, url), room, url);
    const of = (frame) => frame.url().startsWith(`${site.url}/ec/`);
    await until(`${this.name} has the widget`, () => (this.frame = this.page.frames().find(of)));
  }

  part(name) {
    return `[data-testid="${name}"]`;
  }

  /** From the lobby into the call. */
  async join() {
    await until(`${this.name} is in the lobby`, () => this.frame.$(this.part('lobby_joinCall')), 90);
    await this.frame.$eval(this.part('lobby_joinCall'), (button) => button.click());
    await until(`${this.name} is in the call`, () => this.frame.$(this.part('incall_leave')), 60);
  }

  /** Another's tile is there, its picture of at least this width, moving. */
  sees(name, least = 160, seconds = 60) {
    return until(`${this.name} sees ${name} move, ${least} wide`, async () => {
      const tiles = await this.frame.evaluate(look);
      const tile = tiles.find((one) => one.name === name && one.seen);
      return { ok: tile?.moved > 5 && tile.width >= least, tiles };
    }, seconds);
  }

  tiles() {
    return this.frame.evaluate(look);
  }

  hears(name) {
    return until(`${this.name} hears ${name}`, async () => {
      const energy = await this.frame.evaluate(listen);
      return { ok: energy > 1e-4, energy };
    }, 40);
  }

  hearsNobody() {
    return until(`${this.name} hears nobody`, async () => {
      const energy = await this.frame.evaluate(listen);
      return { ok: energy < 1e-6, energy };
    }, 40);
  }

  async press(name) {
    await this.frame.$eval(this.part(name), (button) => button.click());
  }

  /** Out of the call; a widget has closed itself then, which it does after its sound of leaving. */
  async leave() {
    const isWidget = this.frame !== this.page.mainFrame();
    await this.press('incall_leave');
    await until(`${this.name} is out`, async () => {
      if (isWidget) return !this.page.frames().includes(this.frame);
      return !(await this.frame.$(this.part('incall_leave')));
    });
  }
}
