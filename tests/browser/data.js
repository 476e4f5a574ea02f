// The data a participant sends and gets, on the unmodified livekit-client; driven from outside
// through `data`. It uses the room of page.js.

const heard = { messages: [], texts: [], files: [] };
const utf8 = { encode: (text) => new TextEncoder().encode(text), decode: (bytes) => new TextDecoder().decode(bytes) };

/** A file of `size` bytes that no two seeds share. */
function bytes(seed, size) {
  return Uint8Array.from({ length: size }, (_, n) => (n * 31 + seed * 17 + (n >> 8)) & 0xff);
}

async function digest(data) {
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', data));
  return [...hash].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

async function whole(reader) {
  const parts = await reader.readAll();
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

window.data = {
  listen() {
    room.on(RoomEvent.DataReceived, (payload, participant, kind, topic) => {
      heard.messages.push({ from: participant?.identity, text: utf8.decode(payload), kind, topic });
    });
    room.registerTextStreamHandler('chat', async (reader, { identity }) => {
      heard.texts.push({ from: identity, text: await reader.readAll() });
    });
    room.registerByteStreamHandler('file', async (reader, { identity }) => {
      const data = await whole(reader);
      heard.files.push({ from: identity, name: reader.info.name, size: data.length, digest: await digest(data) });
    });
    room.registerRpcMethod('shout', async ({ payload, callerIdentity }) => `${callerIdentity}: ${payload.toUpperCase()}`);
    room.registerRpcMethod('refuse', async ({ payload }) => {
      throw new LivekitClient.RpcError(4711, 'not today', payload);
    });
  },

  messages: () => heard.messages,
  texts: () => heard.texts,
  files: () => heard.files,

  say: (text, topic, reliable, to) =>
    room.localParticipant.publishData(utf8.encode(text), { topic, reliable, destinationIdentities: to }),

  write: (text, to) => room.localParticipant.sendText(text, { topic: 'chat', destinationIdentities: to }),

  async sendFile(name, seed, size) {
    const data = bytes(seed, size);
    await room.localParticipant.sendFile(new File([data], name), { topic: 'file' });
    return digest(data);
  },

  /** What the other side answered, or how it failed. */
  async call(to, method, payload) {
    try {
      return await room.localParticipant.performRpc({ destinationIdentity: to, method, payload });
    } catch (error) {
      return { code: error.code, message: error.message, data: error.data };
    }
  },
};
