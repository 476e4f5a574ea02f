// Orders to the road between this client and the server, by the socket that FOCI_ROAD names.

import net from 'node:net';

/** Gives one order; resolves to what the road has counted so far. */
export function road(order) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(process.env.FOCI_ROAD);
    let answer = '';
    socket.setTimeout(5000, () => socket.destroy(new Error(`the road does not answer ${order}`)));
    socket.on('error', reject);
    socket.on('data', (bytes) => {
      answer += bytes;
      if (!answer.endsWith('\n')) return;
      socket.destroy();
      const counted = JSON.parse(answer);
      if (counted.error) reject(new Error(counted.error));
      else resolve(counted);
    });
    socket.end(`${order}\n`);
  });
}
