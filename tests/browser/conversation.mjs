// Data between three participants a, b and c: packets, streams of text and bytes, calls of methods.
// Part of other scripts.

import { until } from './stage.mjs';

// Characters of two to four bytes, so that a cut between two chunks may fall within one.
const LONG = 'ünïcödé – 文字 – 🎈 '.repeat(2500);
const KINDS = { reliable: 0, lossy: 1 };

const others = (cast, name) => cast.names.filter((each) => each !== name);

/** Waits until somebody has got exactly these entries of one sender, in this order. */
async function gets(cast, name, list, from, wanted) {
  await until(`${name} gets ${list} of ${from}`, async () => {
    const seen = (await cast.data(name, list)).filter((entry) => entry.from === from);
    const matches = wanted.map((want, n) =>
      Object.entries(want).every(([key, value]) => seen[n]?.[key] === value));
    return { ok: seen.length === wanted.length && matches.every(Boolean), had: seen.length, matches };
  });
}

/** One reliable message to everybody, which arrives once. */
export async function greeting(cast, name, text) {
  await cast.data(name, 'say', text, 'greeting', true);
  for (const each of others(cast, name)) {
    await until(`${each} reads "${text}" once`, async () => {
      const seen = (await cast.data(each, 'messages')).filter((m) => m.text === text);
      return { ok: seen.length === 1 && seen[0].from === name && seen[0].topic === 'greeting', seen };
    });
  }
}

/**
 * Words arrive after a full reconnect. Not the first ones perhaps: those said while the client still
 * counts as reconnecting it keeps for a resume that does not come.
 */
export async function writesAgain(cast, name) {
  const text = 'after all that';
  await until(`all read ${name} again`, async () => {
    await cast.data(name, 'say', text, 'greeting', true);
    const seen = await Promise.all(others(cast, name).map((each) => cast.data(each, 'messages')));
    return seen.every((all) => all.some((m) => m.from === name && m.text === text));
  });
}

/** Reliable packets come whole and in order; one for `c` alone never reaches `a`. */
async function packets(cast) {
  const said = [...Array(20).keys()].map((n) => ({ text: `word ${n}`, topic: 'words', kind: KINDS.reliable }));
  for (const { text, topic } of said) await cast.data('b', 'say', text, topic, true);
  await cast.data('b', 'say', 'for c alone', 'secret', true, ['c']);
  await cast.data('b', 'say', 'the end', 'words', true);
  const end = { text: 'the end', topic: 'words', kind: KINDS.reliable };
  await gets(cast, 'a', 'messages', 'b', [...said, end]);
  await gets(cast, 'c', 'messages', 'b', [...said, { text: 'for c alone', topic: 'secret' }, end]);
  await until('lossy packets of a arrive', async () => {
    await cast.data('a', 'say', 'fleeting', 'lossy', false);
    const seen = await Promise.all(['b', 'c'].map((name) => cast.data(name, 'messages')));
    const had = seen.map((all) => all.filter((m) => m.from === 'a' && m.topic === 'lossy'));
    return { ok: had.every((all) => all.some((m) => m.text === 'fleeting' && m.kind === KINDS.lossy)), had };
  });
}

async function streams(cast) {
  await cast.data('c', 'write', LONG);
  await cast.data('c', 'write', 'psst', ['a']);
  await cast.data('c', 'write', 'done');
  await gets(cast, 'a', 'texts', 'c', [{ text: LONG }, { text: 'psst' }, { text: 'done' }]);
  await gets(cast, 'b', 'texts', 'c', [{ text: LONG }, { text: 'done' }]);
  const sent = await cast.data('a', 'sendFile', 'holiday.jpg', 7, 200_000);
  for (const each of ['b', 'c']) {
    await gets(cast, each, 'files', 'a', [{ name: 'holiday.jpg', size: 200_000, digest: sent }]);
  }
}

async function calls(cast) {
  const long = 'a long question '.repeat(500);
  for (const [from, to] of [['a', 'c'], ['c', 'a'], ['b', 'c'], ['a', 'b']]) {
    const loud = await cast.data(from, 'call', to, 'shout', long);
    if (loud !== `${from}: ${long.toUpperCase()}`) throw new Error(`${from} calls ${to}: ${JSON.stringify(loud)}`);
    const no = await cast.data(from, 'call', to, 'refuse', 'why');
    if (no.code !== 4711 || no.message !== 'not today') throw new Error(`refusal: ${JSON.stringify(no)}`);
    const none = await cast.data(from, 'call', to, 'nothing', '');
    if (none.code !== 1400) throw new Error(`no such method: ${JSON.stringify(none)}`);
    console.log(`  ${from} calls methods of ${to}`);
  }
}

export async function conversation(cast) {
  await packets(cast);
  await streams(cast);
  await calls(cast);
}
