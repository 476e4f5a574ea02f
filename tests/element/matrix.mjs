// The homeserver as its client API shows it: accounts and rooms.
//
// FOCI_HOMESERVER is its URL, FOCI_REGISTRATION its shared secret for making accounts.

import { createHmac, randomBytes } from 'node:crypto';

export const homeserver = process.env.FOCI_HOMESERVER;

/** A request that must succeed. */
async function ask(method, path, body, token) {
  const response = await fetch(homeserver + path, {
    method,
    headers: token ? { authorization: `Bearer ${token}` } : {},
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(20_000),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return JSON.parse(text);
}

/** A new account with a device: `{user_id, device_id, access_token, displayName}`. */
export async function register(displayName) {
  const username = `${displayName.toLowerCase()}-${randomBytes(4).toString('hex')}`;
  const password = randomBytes(12).toString('hex');
  const { nonce } = await ask('GET', '/_synapse/admin/v1/register');
  const mac = createHmac('sha1', process.env.FOCI_REGISTRATION)
    .update([nonce, username, password, 'notadmin'].join('\0'))
    .digest('hex');
  const account = await ask('POST', '/_synapse/admin/v1/register', {
    nonce, username, password, mac, displayname: displayName, admin: false,
  });
  return { ...account, displayName, homeserver };
}

/** A room that all of them are in, and in which all of them may take part in calls. */
export async function room(name, [owner, ...guests], { encrypted }) {
  const encryption = {
    type: 'm.room.encryption',
    state_key: '',
    content: { algorithm: 'm.megolm.v1.aes-sha2' },
  };
  const { room_id: id } = await ask('POST', '/_matrix/client/v3/createRoom', {
    name,
    preset: 'private_chat',
    invite: guests.map((guest) => guest.user_id),
    initial_state: encrypted ? [encryption] : [],
    // Without this only the owner may tell the room of a call.
    power_level_content_override: { events: { 'org.matrix.msc3401.call.member': 0 } },
  }, owner.access_token);
  for (const guest of guests) {
    await ask('POST', `/_matrix/client/v3/join/${encodeURIComponent(id)}`, {}, guest.access_token);
  }
  return id;
}

/** Whether a room's state tells of nobody in a call. */
export async function quiet(id, user) {
  const path = `/_matrix/client/v3/rooms/${encodeURIComponent(id)}/state`;
  const state = await ask('GET', path, undefined, user.access_token);
  return state
    .filter((event) => event.type === 'org.matrix.msc3401.call.member')
    .every((event) => Object.keys(event.content).length === 0);
}
