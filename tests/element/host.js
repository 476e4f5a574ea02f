// A Matrix client that shows Element Call as a widget, bundled for the browser by `site.mjs`.
//
// It owns the session and the encryption of messages; the widget reaches the homeserver through it.
// `foci.session` is the account; `host.ready` resolves when it is online, and `host.show(room, url)`
// opens the widget.

import { ClientEvent, createClient, MatrixEventEvent, RoomStateEvent } from 'matrix-js-sdk';
import { ClientWidgetApi, OpenIDRequestState, Widget, WidgetApiToWidgetAction, WidgetDriver } from 'matrix-widget-api';

const { session } = window.foci;
const raw = (event) => event.getEffectiveEvent();

async function open() {
  const client = createClient({
    baseUrl: session.homeserver,
    userId: session.user_id,
    deviceId: session.device_id,
    accessToken: session.access_token,
  });
  await client.initRustCrypto({ useIndexedDB: false });
  const synced = new Promise((resolve) => {
    client.on(ClientEvent.Sync, (state) => state === 'SYNCING' && resolve());
  });
  await client.startClient({ initialSyncLimit: 20 });
  await synced;
  return client;
}

/** What the widget may ask of us; it may do so in its own room alone. */
class Driver extends WidgetDriver {
  constructor(client, room) {
    super();
    this.client = client;
    this.room = room;
    this.ready = new Promise((resolve) => {
      this.begin = resolve;
    });
  }

  async validateCapabilities(wanted) {
    return wanted;
  }

  async sendEvent(type, content, stateKey = null) {
    const sent = stateKey === null
      ? await this.client.sendEvent(this.room, type, content)
      : await this.client.sendStateEvent(this.room, type, content, stateKey);
    return { roomId: this.room, eventId: sent.event_id };
  }

  async sendDelayedEvent(delay, type, content, stateKey = null) {
    const sent = stateKey === null
      ? await this.client._unstable_sendDelayedEvent(this.room, { delay }, null, type, content)
      : await this.client._unstable_sendDelayedStateEvent(this.room, { delay }, type, content, stateKey);
    return { roomId: this.room, delayId: sent.delay_id };
  }

  async sendStickyEvent(sticks, type, content) {
    const sent = await this.client._unstable_sendStickyEvent(this.room, sticks, null, type, content);
    return { roomId: this.room, eventId: sent.event_id };
  }

  async sendDelayedStickyEvent(delay, sticks, type, content) {
    const sent = await this.client._unstable_sendStickyDelayedEvent(
      this.room, sticks, { delay }, null, type, content);
    return { roomId: this.room, delayId: sent.delay_id };
  }

  async cancelScheduledDelayedEvent(id) {
    await this.client._unstable_cancelScheduledDelayedEvent(id);
  }

  async restartScheduledDelayedEvent(id) {
    await this.client._unstable_restartScheduledDelayedEvent(id);
  }

  async sendScheduledDelayedEvent(id) {
    await this.client._unstable_sendScheduledDelayedEvent(id);
  }

  /** Messages to devices: user -> device (or `*`) -> content. */
  async sendToDevice(type, encrypted, messages) {
    if (!encrypted) {
      const contents = Object.entries(messages).map(([user, devices]) => [user, new Map(Object.entries(devices))]);
      await this.client.sendToDevice(type, new Map(contents));
      return;
    }
    const crypto = this.client.getCrypto();
    const known = await crypto.getUserDeviceInfo(Object.keys(messages), true);
    for (const [userId, devices] of Object.entries(messages)) {
      for (const [device, content] of Object.entries(devices)) {
        const ids = device === '*' ? [...(known.get(userId)?.keys() ?? [])] : [device];
        const to = ids.map((deviceId) => ({ userId, deviceId }));
        const batch = await crypto.encryptToDeviceMessages(type, to, content);
        await this.client.queueToDevice(batch);
      }
    }
  }

  timeline() {
    return this.client.getRoom(this.room).getLiveTimeline().getEvents();
  }

  async readRoomTimeline(room, type, msgtype, stateKey, limit) {
    const fits = (event) => event.getType() === type
      && (stateKey === undefined || event.getStateKey() === stateKey)
      && (msgtype === undefined || event.getContent().msgtype === msgtype);
    return this.timeline().filter(fits).reverse().slice(0, limit || 100).map(raw);
  }

  async readRoomState(room, type, stateKey) {
    const state = this.client.getRoom(this.room).currentState;
    const found = stateKey === undefined ? state.getStateEvents(type) : [state.getStateEvents(type, stateKey)];
    return found.filter(Boolean).map(raw);
  }

  async readStickyEvents() {
    await this.ready;
    const events = [...this.client.getRoom(this.room)._unstable_getStickyEvents()];
    await Promise.all(events.map((event) => this.client.decryptEventIfNeeded(event)));
    return events.map(raw);
  }

  async readEventRelations() {
    return { chunk: [] };
  }

  askOpenID(observer) {
    this.client.getOpenIdToken().then(
      (token) => observer.update({ state: OpenIDRequestState.Allowed, token }),
      () => observer.update({ state: OpenIDRequestState.Blocked }),
    );
  }

  async getRtcTransports() {
    return { rtc_transports: await this.client._unstable_getRTCTransports() };
  }

  getKnownRooms() {
    return [this.room];
  }

  processError(error) {
    if (!error?.errcode) return undefined;
    return {
      matrix_api_error: {
        http_status: error.httpStatus,
        http_headers: {},
        url: error.url ?? '',
        response: { errcode: error.errcode, error: error.error },
      },
    };
  }
}

/** Resolves when the widget knows the state of its room: events before that confuse it. */
function knowsState(api) {
  const send = api.transport.send.bind(api.transport);
  return new Promise((resolve) => {
    api.transport.send = async (action, data) => {
      const reply = await send(action, data);
      if (action === WidgetApiToWidgetAction.UpdateState) resolve();
      return reply;
    };
  });
}

/** All that the homeserver tells of the room goes on to the widget, in order and decrypted. */
function feed(client, api, room, ready) {
  const quietly = (sent) => sent.catch((error) => console.warn('the widget took no event', error));
  const pass = (event) => quietly(api.feedEvent(raw(event)));
  let queue = ready;
  client.on(ClientEvent.Event, (event) => {
    if (event.getRoomId() !== room) return;
    queue = queue.then(async () => {
      await client.decryptEventIfNeeded(event);
      if (event.isDecryptionFailure()) event.once(MatrixEventEvent.Decrypted, pass);
      else await pass(event);
    });
  });
  client.on(RoomStateEvent.Events, (event) => {
    if (event.getRoomId() === room) quietly(api.feedStateUpdate(raw(event)));
  });
  client.on(ClientEvent.ReceivedToDeviceMessage, ({ message, encryptionInfo }) => {
    quietly(api.feedToDevice(message, encryptionInfo !== null));
  });
}

/** Opens the widget in a frame of its own; it is closed when it asks for that. */
function show(client, room, url) {
  const widget = new Widget({
    id: 'call',
    creatorUserId: session.user_id,
    type: 'm.call',
    url,
    waitForIframeLoad: false,
  });
  const frame = document.createElement('iframe');
  frame.allow = 'camera; microphone; display-capture; autoplay; clipboard-write';
  // It has a window to talk to once it is in the page.
  document.body.append(frame);
  const driver = new Driver(client, room);
  const api = new ClientWidgetApi(widget, frame, driver);
  knowsState(api).then(driver.begin);
  api.setViewedRoomId(room);
  feed(client, api, room, driver.ready);
  const heard = [];
  for (const action of [
    'io.element.join', 'io.element.device_mute', 'im.vector.hangup', 'io.element.close', 'set_always_on_screen',
  ]) {
    api.on(`action:${action}`, (asked) => {
      asked.preventDefault();
      heard.push(action);
      api.transport.reply(asked.detail, {});
      if (action === 'io.element.close') {
        api.stop();
        frame.remove();
      }
    });
  }
  frame.src = url;
  window.host.heard = heard;
}

const client = open();
window.host = {
  ready: client.then(() => true),
  show: async (room, url) => show(await client, room, url),
  heard: [],
};
