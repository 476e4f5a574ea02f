// Serves Element Call as npm has it: at `/` as an application of its own, at `/ec/` to be a widget.
//
// FOCI_ELEMENT_MODULES names the folder of its node modules.

import { createReadStream, existsSync, statSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import path from 'node:path';

export const modules =
  process.env.FOCI_ELEMENT_MODULES ?? path.join(homedir(), '.cache/foci/element/node_modules');
const here = path.dirname(new URL(import.meta.url).pathname);
const dist = path.join(modules, '@element-hq/element-call-embedded/dist');

const TYPES = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.css': 'text/css',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
  '.svg': 'image/svg+xml',
  '.ogg': 'audio/ogg',
  '.mp3': 'audio/mpeg',
  '.woff2': 'font/woff2',
};

function send(response, file) {
  response.writeHead(200, { 'content-type': TYPES[path.extname(file)] ?? 'application/octet-stream' });
  createReadStream(file).pipe(response);
}

/** A server on a free port of localhost, which browsers take for a secure context. */
export async function listen(answer) {
  const server = http.createServer((request, response) => {
    answer(decodeURIComponent(new URL(request.url, 'http://localhost').pathname), response);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://localhost:${server.address().port}`, close };
}

/** Element Call with this configuration. */
export function elementCall(config) {
  return listen((asked, response) => {
    const name = asked.replace(/^\/ec\//, '/');
    const file = path.join(dist, name);
    if (name === '/config.json') {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(config));
    } else if (file.startsWith(dist) && existsSync(file) && statSync(file).isFile()) {
      send(response, file);
    } else if (path.extname(name) === '') {
      // Its own paths, such as /room.
      send(response, path.join(dist, 'index.html'));
    } else {
      response.writeHead(404);
      response.end();
    }
  });
}

/** The client that shows Element Call as a widget, bundled now. */
export async function widgetHost() {
  const esbuild = createRequire(path.join(modules, 'x.js'))('esbuild');
  const bundle = await esbuild.build({
    entryPoints: [path.join(here, 'host.js')],
    bundle: true,
    format: 'esm',
    write: false,
    nodePaths: [modules],
    define: { global: 'globalThis' },
    logLevel: 'error',
  });
  const crypto = 'pkg/matrix_sdk_crypto_wasm_bg.wasm';
  return listen((asked, response) => {
    if (asked === '/host.js') {
      response.writeHead(200, { 'content-type': 'text/javascript' });
      response.end(bundle.outputFiles[0].contents);
    } else if (asked === `/${crypto}`) {
      send(response, path.join(modules, '@matrix-org/matrix-sdk-crypto-wasm', crypto));
    } else {
      send(response, path.join(here, 'host.html'));
    }
  });
}
