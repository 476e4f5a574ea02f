// Who plays in a call: participants in browser tabs, and what each sees and hears of the others.
//
// Everything is judged by what a person would notice: pixels of the colour that one publisher draws,
// moving; loudness. Each wait has a deadline.

import { shot, tab, token, until } from './stage.mjs';

export const COLOURS = { a: '#c01010', b: '#10a010', c: '#1010c0', share: '#c0c010' };

/** Whether the colour a tile shows is the one its publisher draws, as video codecs keep it. */
function alike(seen, wanted) {
  const channel = (n) => parseInt(wanted.slice(1 + 2 * n, 3 + 2 * n), 16);
  return seen.every((value, n) => Math.abs(value - channel(n)) < 60);
}

export class Cast {
  pages = {};

  constructor(url, room, stage) {
    Object.assign(this, { url, room, stage });
  }

  get names() {
    return Object.keys(this.pages);
  }

  /** One who watches, and one who is watched: all such pairs. */
  get pairs() {
    return this.names.flatMap((v) => this.names.filter((p) => p !== v).map((p) => [v, p]));
  }

  /** Opens a tab with a generation of the client, and joins. */
  async enter(browser, name, { client = 'newest', ...options } = {}) {
    const page = await tab(browser, name, `${this.stage.url}?client=${client}`);
    this.pages[name] = page;
    await this.ask(name, 'join', this.url, token(name, this.room), `${name} in ${this.room}`, options);
  }

  ask(name, what, ...args) {
    return this.pages[name].evaluate((what, args) => window.call[what](...args), what, args);
  }

  /** As `ask`, of what a participant sends and gets as data. */
  data(name, what, ...args) {
    return this.pages[name].evaluate((what, args) => window.data[what](...args), what, args);
  }

  /** Whether a tile moves, in its publisher's colour. */
  async sees(viewer, publisher, source = 'camera', colour = COLOURS[publisher]) {
    const seen = await this.ask(viewer, 'look', `${publisher}-${source}`);
    return { ok: seen.moved > 20 && alike(seen.colour, colour), ...seen };
  }

  async allSee(what, seconds) {
    await until(what, async () => {
      const looks = this.pairs.map(async ([v, p]) => [`${v} sees ${p}`, await this.sees(v, p)]);
      const blind = (await Promise.all(looks)).filter(([, seen]) => !seen.ok);
      return { ok: blind.length === 0, blind };
    }, seconds);
  }

  async hears(listener, speaker, seconds) {
    const loud = async () => (await this.ask(listener, 'loudness', speaker)) > 0.05;
    await until(`${listener} hears ${speaker}`, loud, seconds);
  }

  async allHear() {
    for (const [listener, speaker] of this.pairs) await this.hears(listener, speaker);
  }

  /** One whose signalling is cut takes his session up again; nobody sees him leave, and all goes on. */
  async resume(name) {
    for (const each of this.names) await this.ask(each, 'forget');
    await this.ask(name, 'simulate', 'signal-reconnect');
    await until(`${name} is back`, async () => {
      const events = await this.ask(name, 'events');
      return { ok: events.includes('reconnected') && (await this.ask(name, 'state')) === 'connected', events };
    });
    for (const each of this.names) {
      const left = (await this.ask(each, 'events')).includes('participantDisconnected');
      if (left) throw new Error(`to ${each} a resume is a leave`);
    }
    await this.allSee('all see each other again', 30);
    await this.allHear();
  }

  /** Waits until a tile has this width, and still shows what it should. */
  async width(what, viewer, publisher, wanted, source, colour) {
    await until(what, async () => {
      const seen = await this.sees(viewer, publisher, source, colour);
      return { ...seen, ok: seen.ok && seen.width === wanted };
    }, 40);
  }

  shot(name, file) {
    return shot(this.pages[name], file);
  }
}
