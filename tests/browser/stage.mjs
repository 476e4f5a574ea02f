// What the browser tests share: browsers, tokens, a page server, deadlines, screenshots.
//
// Node modules live outside the tree: FOCI_NODE_MODULES names their folder (`tests/run` sets it).

import { execFileSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const modules =
  process.env.FOCI_NODE_MODULES ?? path.join(homedir(), '.cache/foci/browser/node_modules');
/** A package of npm. */
export const use = createRequire(path.join(modules, 'x.js'));
const puppeteer = use('puppeteer-core');
const here = path.dirname(new URL(import.meta.url).pathname);

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-domain-reliability',
  '--use-fake-ui-for-media-stream',
  '--use-fake-device-for-media-stream',
  '--auto-select-desktop-capture-source=Entire screen',
  '--autoplay-policy=no-user-gesture-required',
  '--mute-audio',
  '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows',
  '--disable-renderer-backgrounding',
];

/** A busy machine takes its time to start a browser, in ms. */
const PATIENCE = 90_000;

/** The first of these files that is there. */
function installed(what, files) {
  const found = files.find((file) => file && existsSync(file));
  if (!found) throw new Error(`no ${what}: see tests/setup`);
  return found;
}

/** A folder that goes when we end. */
function folder(name) {
  const made = mkdtempSync(path.join(tmpdir(), `foci-${name}-`));
  process.on('exit', () => rmSync(made, { recursive: true, force: true, maxRetries: 5 }));
  return made;
}

/** Has whoever keeps certificates in this folder trust the authority of the test, if it has one. */
function trusting(at) {
  const authority = process.env.FOCI_AUTHORITY;
  if (!authority) return at;
  mkdirSync(at, { recursive: true });
  const database = ['-d', `sql:${at}`];
  execFileSync('certutil', [...database, '-N', '--empty-password']);
  execFileSync('certutil', [...database, '-A', '-n', 'authority', '-t', 'C,,', '-i', authority]);
  return at;
}

/** One Chromium; each participant gets a window of its own, so that none is hidden. */
export async function chromium(flags = []) {
  const files = [process.env.FOCI_CHROMIUM, '/usr/bin/chromium', '/usr/bin/google-chrome'];
  const home = folder('chromium');
  trusting(path.join(home, '.pki/nssdb'));
  return puppeteer.launch({
    executablePath: installed('Chromium', files),
    args: [...FLAGS, ...flags],
    headless: true,
    timeout: PATIENCE,
    env: { ...process.env, HOME: home },
  });
}

/** A stock Firefox, driven by WebDriver BiDi; only its microphone and its questions are replaced. */
export async function firefox() {
  const files = [process.env.FOCI_FIREFOX, '/usr/bin/firefox-esr', '/usr/bin/firefox'];
  return puppeteer.launch({
    browser: 'firefox',
    executablePath: installed('Firefox', files),
    headless: true,
    timeout: PATIENCE,
    userDataDir: trusting(folder('firefox')),
    extraPrefsFirefox: {
      'media.navigator.streams.fake': true,
      'media.navigator.permission.disabled': true,
      'media.autoplay.default': 0,
      'media.autoplay.blocking_policy': 0,
      'media.gmp-manager.updateEnabled': false,
      // Machines without a network have this one only.
      'media.peerconnection.ice.loopback': true,
    },
  });
}

/** A page in a window of its own; what it complains about goes to our log. */
export async function tab(browser, name, url) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage({ type: 'window' });
  page.setDefaultNavigationTimeout(PATIENCE);
  await page.setViewport({ width: 1280, height: 800 });
  page.on('pageerror', (error) => console.log(`  [${name}] page error: ${error.message}`));
  page.on('console', (line) => {
    if (process.env.FOCI_VERBOSE) console.log(`  [${name}] ${line.text()}`);
  });
  await page.goto(url);
  return page;
}

// Generations of the client, by the names of their npm packages: `dual` is the last one that knows
// two peer connections only, unless asked otherwise.
const CLIENTS = { newest: 'livekit-client', dual: 'livekit-client-dual' };

/** The file behind a path of the page server, if it is one of those that are served. */
function served(pathname) {
  const [, folder, name] = pathname.match(/^\/(?:(\w+)\/)?([\w.-]*)$/) ?? [];
  if (folder) {
    const scripts = ['livekit-client.umd.js', 'livekit-client.e2ee.worker.js'];
    const known = CLIENTS[folder] && scripts.includes(name);
    return known && path.join(modules, CLIENTS[folder], 'dist', name);
  }
  const ours = { '': 'page.html', 'page.js': 'page.js', 'data.js': 'data.js', 'watch.js': 'watch.js' }[name];
  return ours && path.join(here, ours);
}

/** Serves the test page and the unmodified npm clients at a localhost port (a secure context). */
export async function serve() {
  const server = http.createServer((request, response) => {
    const file = served(new URL(request.url, 'http://localhost').pathname);
    const type = file?.endsWith('.html') ? 'text/html' : file ? 'text/javascript' : 'text/plain';
    response.writeHead(file ? 200 : 404, { 'content-type': type });
    response.end(file ? readFileSync(file) : 'not here');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://localhost:${server.address().port}/`, close: () => server.close() };
}

/** An access token, made here and not by the code under test. */
export function token(identity, room, grants = {}) {
  const part = (data) => Buffer.from(data).toString('base64url');
  const claims = {
    iss: process.env.FOCI_KEY ?? 'devkey',
    sub: identity,
    name: identity.toUpperCase(),
    exp: Math.floor(Date.now() / 1000) + 600,
    video: { roomJoin: true, room, ...grants },
  };
  const head = `${part('{"alg":"HS256","typ":"JWT"}')}.${part(JSON.stringify(claims))}`;
  const secret = process.env.FOCI_SECRET ?? 'secret';
  return `${head}.${createHmac('sha256', secret).update(head).digest('base64url')}`;
}

/** Waits until `condition` gives something true, with a deadline; says what it waited for. */
export async function until(what, condition, seconds = 20) {
  const began = Date.now();
  let last;
  for (;;) {
    last = await condition();
    if (last?.ok ?? last) {
      console.log(`  ${what} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
      return last;
    }
    if (Date.now() - began > seconds * 1000) {
      throw new Error(`${what}: not within ${seconds} s; last seen ${JSON.stringify(last)}`);
    }
    await pause(100);
  }
}

const artifacts = process.env.FOCI_ARTIFACTS ?? path.join(tmpdir(), 'foci-artifacts');

/** Keeps a screenshot for people to look at. */
export async function shot(page, name) {
  mkdirSync(artifacts, { recursive: true });
  const file = path.join(artifacts, `${name}.png`);
  await page.screenshot({ path: file });
  console.log(`  screenshot ${file}`);
}

/** Keeps a text beside the screenshots. */
export function keep(name, text) {
  mkdirSync(artifacts, { recursive: true });
  writeFileSync(path.join(artifacts, name), text);
}

function late(seconds) {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`not done within ${seconds} s`)), seconds * 1000).unref();
  });
}

/** Runs a scenario with an overall deadline, then ends: the exit code tells the result. */
export async function perform(name, seconds, scenario) {
  const began = Date.now();
  try {
    await Promise.race([scenario(), late(seconds)]);
    console.log(`${name}: ok in ${((Date.now() - began) / 1000).toFixed(1)} s`);
  } catch (error) {
    console.log(`${name}: FAILED: ${error.stack ?? error}`);
    process.exitCode = 1;
  }
  // Whatever still runs ends with us: puppeteer kills its browsers, native threads stop.
  process.exit();
}

/** The same in Chromium; on failure every page is photographed. */
export async function run(name, seconds, scenario) {
  await perform(name, seconds + 15, async () => {
    const browser = await chromium();
    try {
      await Promise.race([scenario(browser), late(seconds)]);
    } catch (error) {
      await photograph(browser, name);
      throw error;
    } finally {
      // Whatever does not end is killed when we do.
      await Promise.race([browser.close(), pause(5000)]);
    }
  });
}

/** A picture of every page. */
export async function photograph(browser, name) {
  let n = 0;
  for (const context of browser.browserContexts()) {
    for (const page of await context.pages()) {
      await shot(page, `${name}-failed-${n++}`).catch(() => {});
    }
  }
}
