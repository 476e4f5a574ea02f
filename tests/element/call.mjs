// Two users of Element Call, on a real homeserver and the server under test: node call.mjs URL
//
// Each case is a room and two accounts of its own; FOCI_CASE picks those whose name contains it.
// After a failure the other cases still run; pictures and logs of the failed go to the artifacts.

import { overhear } from './eavesdropper.mjs';
import { homeserver, quiet, register, room as open } from './matrix.mjs';
import { elementCall, widgetHost } from './site.mjs';
import { User } from './user.mjs';
import { keep, run, shot, until } from '../browser/stage.mjs';

const url = process.argv[2];
const only = process.env.FOCI_CASE ?? '';

// A standalone Element Call of this version finds nobody in an encrypted room in mode matrix_2_0:
// it looks at memberships before they are decrypted. As a widget it gets them decrypted.
const CASES = [
  { name: 'spa-plain', attends: true, overheard: true },
  { name: 'spa-encrypted', attends: true, encrypted: true, overheard: true },
  { name: 'spa-matrix2-plain', mode: 'matrix_2_0' },
  { name: 'widget-plain', widget: true },
  { name: 'widget-encrypted', widget: true, encrypted: true },
  { name: 'widget-matrix2-plain', widget: true, mode: 'matrix_2_0' },
  { name: 'widget-matrix2-encrypted', widget: true, mode: 'matrix_2_0', encrypted: true },
];

/** Both see and hear the other. */
async function talking(alice, bob) {
  await Promise.all([alice.sees('Bob'), bob.sees('Alice')]);
  await Promise.all([alice.hears('Bob'), bob.hears('Alice')]);
}

/** The layer follows the size of the tile, and silence is silent. */
async function attending(alice, bob) {
  await alice.sees('Bob', 640);
  await bob.press('incall_mute');
  await alice.hearsNobody();
  await bob.press('incall_mute');
  await alice.hears('Bob');
}

async function sharing(alice, bob, name) {
  await bob.press('incall_screenshare');
  const ofBob = async () => (await alice.tiles()).filter((tile) => tile.name === 'Bob' && tile.moved > 5);
  await until('Alice sees the screen of Bob, and Bob', async () => {
    const tiles = await ofBob();
    return { ok: tiles.length === 2 && tiles.some((tile) => tile.width >= 960), tiles };
  }, 40);
  await shot(alice.page, `element-${name}-screen`);
  await bob.press('incall_screenshare');
  await until('and then Bob alone', async () => (await ofBob()).length === 1, 30);
}

async function returning(alice, bob, visit) {
  await bob.leave();
  await until('Alice sees Bob leave', async () => {
    const names = (await alice.tiles()).map((tile) => tile.name);
    return { ok: names.join() === 'Alice', names };
  }, 30);
  await visit(bob);
  await bob.join();
  await talking(alice, bob);
}

async function play(how, browser, stage) {
  const { name, widget, encrypted } = how;
  const accounts = await Promise.all(['Alice', 'Bob'].map(register));
  const room = await open(name, accounts, { encrypted });
  const site = stage.sites[how.mode ?? 'compatibility'];
  const visit = (user) => (widget ? user.show(site, stage.host, room) : user.visit(site, room));
  const users = await Promise.all(accounts.map((account) => User.open(browser, account)));
  const [alice, bob] = users;
  try {
    if (widget) await Promise.all(users.map((user) => user.online(stage.host)));
    for (const user of users) {
      await visit(user);
      await user.join();
    }
    await talking(alice, bob);
    await shot(alice.page, `element-${name}`);
    if (how.attends) await attending(alice, bob);
    if (how.overheard) await overhear(browser, url, room, how);
    await sharing(alice, bob, name);
    await returning(alice, bob, visit);
    await bob.leave();
    await alice.leave();
    if (!how.mode) await until('the room knows of no call', () => quiet(room, accounts[0]));
  } catch (error) {
    for (const user of users) {
      await shot(user.page, `element-${name}-failed-${user.name}`).catch(() => {});
      keep(`element-${name}-failed-${user.name}.log`, user.lines.join('\n'));
    }
    throw error;
  } finally {
    await Promise.all(users.map((user) => user.close()));
  }
}

await run('element', 900, async (browser) => {
  const config = (mode) => ({
    default_server_config: {
      'm.homeserver': { base_url: homeserver, server_name: process.env.FOCI_SERVER_NAME },
    },
    matrix_rtc_mode: mode,
  });
  const sites = {};
  for (const mode of ['compatibility', 'matrix_2_0']) sites[mode] = await elementCall(config(mode));
  const stage = { sites, host: await widgetHost() };
  const failed = [];
  const cases = CASES.filter((one) => one.name.includes(only));
  if (cases.length === 0) throw new Error(`no case is called ${only}`);
  for (const how of cases) {
    const began = Date.now();
    const result = await play(how, browser, stage).catch((error) => error);
    if (result) failed.push(how.name);
    console.log(`${how.name}: ${result?.message ?? 'ok'} after ${(Date.now() - began) / 1000} s`);
  }
  for (const served of [...Object.values(sites), stage.host]) served.close();
  if (failed.length > 0) throw new Error(`failed: ${failed.join(', ')}`);
});
