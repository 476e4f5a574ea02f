// The page: the form, the buttons and a tile for everything there is to see. The call itself is in
// call.js, the numbers in panel.js.

import { Call } from "./call.js";
import { Panel } from "./panel.js";

const $ = (id) => document.getElementById(id);
/** The server's paths lie one above this script, whatever prefix a proxy puts before them. */
const base = new URL("../", import.meta.url);
/** Long enough to be read twice. */
const NOTICE_MS = 20000;
const IDLE = "Open this page in two tabs and join in both.";

let call;
let panel;
let myName = "";

// ---- joining and leaving ------------------------------------------------------------------------

async function join(event) {
  event.preventDefault();
  if ($("join").disabled) return;
  $("join").disabled = true;
  notice("");
  try {
    const room = $("room").value.trim();
    myName = $("name").value.trim();
    status("busy", "Asking for camera and microphone…");
    const { tracks, missing } = await devices();
    status("busy", "Joining…");
    const token = await askToken(room, myName).catch((error) => {
      tracks.forEach(({ track }) => track.stop());
      throw error;
    });
    begin(token, tracks, room);
    if (missing) notice(missing);
  } catch (error) {
    status("bad", error.message);
  }
  $("join").disabled = false;
}

function begin(token, tracks, room) {
  document.body.classList.add("in-call");
  $("entry").hidden = true;
  for (const id of ["controls", "panel"]) $(id).hidden = false;
  const title = `${room} · Foci`;
  document.title = title;
  const address = new URL(location.href);
  address.searchParams.set("room", room);
  history.replaceState(null, "", address);
  call = new Call(base, token, tracks, { changed: soon, status, notice, ended });
  panel = new Panel(call, $("connection"), $("streams"));
  render();
  $("microphone").focus();
}

function ended(why) {
  panel?.stop();
  call = undefined;
  panel = undefined;
  for (const key of [...tiles.keys()]) dropTile(key);
  for (const key of [...sounds.keys()]) dropSound(key);
  for (const id of ["connection", "streams"]) $(id).replaceChildren();
  document.body.classList.remove("in-call");
  document.title = "Foci: try a call";
  $("entry").hidden = false;
  for (const id of ["controls", "panel", "alone"]) $(id).hidden = true;
  status("", why);
  $("join").focus();
}

/** Two people may have the same name, but an identity is one person's. */
async function askToken(room, name) {
  const random = crypto.getRandomValues(new Uint32Array(2));
  const identity = `try-${[...random].map((part) => part.toString(36)).join("")}`;
  const query = new URLSearchParams({ room, name, identity });
  const answer = await fetch(new URL(`try/token?${query}`, base), { method: "POST" })
    .catch(() => { throw new Error("The server does not answer."); });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`The server gives no token: ${text || answer.status}`);
  return text;
}

// ---- devices ------------------------------------------------------------------------------------

const WISHES = {
  MICROPHONE: { audio: true },
  CAMERA: { video: { width: { ideal: 1280 }, height: { ideal: 720 } } },
};

function capture(wish) {
  if (!navigator.mediaDevices) {
    throw new Error("browsers give it to pages from https:// or localhost only");
  }
  return navigator.mediaDevices.getUserMedia(wish);
}

/** Camera and microphone, or what there is of them, and a sentence about what is missing. */
async function devices() {
  const named = (stream) => stream.getTracks()
    .map((track) => ({ track, source: track.kind === "audio" ? "MICROPHONE" : "CAMERA" }));
  try {
    return { tracks: named(await capture({ ...WISHES.MICROPHONE, ...WISHES.CAMERA })) };
  } catch { /* then one by one */ }
  const tracks = [];
  const problems = [];
  for (const [source, wish] of Object.entries(WISHES)) {
    try {
      tracks.push(...named(await capture(wish)));
    } catch (error) {
      problems.push({ what: source.toLowerCase(), why: reason(error) });
    }
  }
  return { tracks, missing: problems.length ? `You are in, but ${lacking(problems)}.` : "" };
}

function lacking(problems) {
  const reasons = new Set(problems.map(({ why }) => why));
  if (reasons.size > 1) return problems.map(({ what, why }) => `without ${what} (${why})`).join(" and ");
  return `without ${problems.map(({ what }) => what).join(" and ")}: ${[...reasons][0]}`;
}

function reason(error) {
  switch (error.name) {
    case "NotAllowedError": return "the browser was told not to allow it";
    case "NotFoundError": return "none found";
    case "NotReadableError": return "in use by another program";
    default: return error.message;
  }
}

async function toggle(source) {
  const entry = call?.own(source);
  if (entry) return call.setMuted(entry, !entry.muted);
  const current = call;
  try {
    const [track] = (await capture(WISHES[source])).getTracks();
    if (call === current && !call.own(source)) await call.publish(track, source);
    else track.stop();
    notice("");
  } catch (error) {
    notice(`No ${source.toLowerCase()}: ${reason(error)}.`);
  }
}

async function share() {
  const shared = call?.own("SCREEN_SHARE");
  if (shared) return call.unpublish(shared);
  const current = call;
  if (!navigator.mediaDevices?.getDisplayMedia) return notice("This browser cannot share a screen.");
  try {
    const [track] = (await navigator.mediaDevices.getDisplayMedia({ video: true })).getVideoTracks();
    if (call === current && !call.own("SCREEN_SHARE")) await call.publish(track, "SCREEN_SHARE");
    else track.stop();
  } catch (error) {
    // Closing the browser's dialogue says "not allowed" too: then there is nothing to tell.
    if (error.name !== "NotAllowedError") notice(`The screen cannot be shared: ${reason(error)}.`);
  }
}

// ---- what is seen and heard ---------------------------------------------------------------------

const tiles = new Map(); // key -> figure
const sounds = new Map(); // track sid -> audio element
let due = false;

/** Draws once for all changes of a moment. */
function soon() {
  if (due) return;
  due = true;
  queueMicrotask(() => { due = false; render(); });
}

function render() {
  if (!call) return;
  const wanted = new Map([...own(), ...[...call.participants.values()].flatMap(others)]);
  for (const key of [...tiles.keys()]) if (!wanted.has(key)) dropTile(key);
  for (const [key, what] of wanted) draw(key, what);
  $("alone").hidden = !call.connected || call.participants.size > 0;
  $("tiles").dataset.count = Math.min(wanted.size, 3);
  hear();
  buttons();
  soonSizes();
}

function own() {
  const picture = (source) => {
    const entry = call.own(source);
    return entry && !entry.muted ? entry.track : undefined;
  };
  const microphone = call.own("MICROPHONE");
  const list = [["own", {
    name: `${myName} (you)`, person: myName, own: true, track: picture("CAMERA"), speaking: call.speaking.has(call.me?.sid),
    silent: silence(microphone),
  }]];
  if (call.own("SCREEN_SHARE")) {
    list.push(["own screen", { name: "Your screen", own: true, screen: true, track: picture("SCREEN_SHARE") }]);
  }
  return list;
}

function others(one) {
  const name = one.name || one.identity;
  const find = (source) => one.tracks?.find((track) => track.source === source);
  const picture = (info) => (info && !info.muted ? call.incoming.get(info.sid) : undefined);
  const camera = find("CAMERA");
  const screen = find("SCREEN_SHARE");
  const list = [[one.identity, {
    name, track: picture(camera), sid: camera?.sid, silent: silence(find("MICROPHONE")),
    speaking: call.speaking.has(one.sid),
  }]];
  if (screen) {
    list.push([`${one.identity} screen`, {
      name: `${name}: screen`, screen: true, track: picture(screen), sid: screen.sid,
    }]);
  }
  return list;
}

const silence = (microphone) => (!microphone ? "no microphone" : microphone.muted ? "muted" : "");

function draw(key, { name, person = name, own: mine, screen, track, sid, silent = "", speaking = false }) {
  let tile = tiles.get(key);
  if (!tile) {
    tile = $("tile").content.firstElementChild.cloneNode(true);
    // Somebody's picture is always of the same colour.
    tile.style.setProperty("--hue", [...person].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7));
    tiles.set(key, tile);
    $("tiles").append(tile);
    resized.observe(tile);
  }
  tile.classList.toggle("own", Boolean(mine));
  tile.classList.toggle("screen", Boolean(screen));
  tile.classList.toggle("speaking", speaking);
  tile.dataset.sid = sid ?? "";
  write(tile, ".initial", [...name.trim()][0]?.toUpperCase() ?? "?");
  write(tile, ".name", name);
  write(tile, ".silent", silent);
  write(tile, ".talking", speaking ? "speaking" : "");
  const video = tile.querySelector("video");
  video.hidden = !track;
  attach(video, track);
}

function write(tile, selector, text) {
  const element = tile.querySelector(selector);
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}

function attach(element, track) {
  if (element.srcObject?.getTracks()[0] === track) return;
  element.srcObject = track ? new MediaStream([track]) : null;
  if (track) element.play().catch(blocked);
}

/** Browsers that insist on a click after a reload. */
function blocked(error) {
  if (error.name !== "NotAllowedError") return;
  notice("The browser plays no sound before you click somewhere on the page.");
  addEventListener("click", () => {
    notice("");
    for (const element of document.querySelectorAll("audio, video")) element.play().catch(() => {});
  }, { once: true });
}

function hear() {
  const heard = new Map();
  for (const one of call.participants.values()) {
    for (const info of one.tracks ?? []) {
      const track = call.incoming.get(info.sid);
      if (track?.kind === "audio") heard.set(info.sid, track);
    }
  }
  for (const sid of [...sounds.keys()]) if (!heard.has(sid)) dropSound(sid);
  for (const [sid, track] of heard) {
    if (!sounds.has(sid)) sounds.set(sid, document.body.appendChild(document.createElement("audio")));
    attach(sounds.get(sid), track);
  }
}

function dropTile(key) {
  const tile = tiles.get(key);
  resized.unobserve(tile);
  tile.querySelector("video").srcObject = null;
  tile.remove();
  tiles.delete(key);
}

function dropSound(sid) {
  const element = sounds.get(sid);
  element.srcObject = null;
  element.remove();
  sounds.delete(sid);
}

// The server sends the layer that fits what is shown, and nothing to a page nobody looks at.
let sizesDue;
const resized = new ResizeObserver(soonSizes);
function soonSizes() {
  clearTimeout(sizesDue);
  sizesDue = setTimeout(() => {
    for (const tile of tiles.values()) {
      if (!tile.dataset.sid || !call?.incoming.has(tile.dataset.sid)) continue;
      const pixels = (length) => Math.max(1, Math.round(length * devicePixelRatio));
      call.want(tile.dataset.sid, pixels(tile.clientWidth), pixels(tile.clientHeight), document.hidden);
    }
  }, 100);
}

function buttons() {
  const label = (id, source, off, on) => {
    const entry = call.own(source);
    const live = Boolean(entry && !entry.muted);
    $(id).textContent = live ? off : on;
    $(id).classList.toggle("on", live);
  };
  label("microphone", "MICROPHONE", "Mute", call.own("MICROPHONE") ? "Unmute" : "Use microphone");
  label("camera", "CAMERA", "Stop camera", "Start camera");
  label("screen", "SCREEN_SHARE", "Stop sharing", "Share screen");
}

function status(kind, text) {
  $("status").dataset.kind = kind;
  $("status").textContent = text;
}

let noticeGoes;
function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
  clearTimeout(noticeGoes);
  noticeGoes = setTimeout(() => { $("notice").hidden = true; }, NOTICE_MS);
}

$("room").value = new URLSearchParams(location.search).get("room")?.slice(0, 64) || "try";
$("name").value = `guest-${Math.floor(Math.random() * 9000 + 1000)}`;
status("", IDLE);
$("entry").onsubmit = join;
$("leave").onclick = () => call?.leave();
$("microphone").onclick = () => toggle("MICROPHONE");
$("camera").onclick = () => toggle("CAMERA");
$("screen").onclick = share;
$("panel").open = matchMedia("(min-width: 44rem)").matches;
$("join").disabled = false;
addEventListener("pagehide", () => call?.leave());
addEventListener("online", () => call?.hurry());
document.addEventListener("visibilitychange", soonSizes);
