"""What the Python tests share: tokens, a tone and a picture, one who watches, deadlines.

Every wait has a deadline. Part of the other scripts.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import sys
import time

import numpy as np
from livekit import rtc

RATE = 48_000
PITCH = 440
WIDTH, HEIGHT = 640, 360
PATIENCE = 20.0
# The picture's left and right halves, RGB; a white bar wanders across.
LEFT, RIGHT = (200, 30, 30), (30, 30, 200)


def token(key, secret, identity, room):
    """An access token, made here and not by the code under test."""

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {
        "iss": key,
        "sub": identity,
        "name": identity.upper(),
        "exp": int(time.time()) + 600,
        "video": {"roomJoin": True, "room": room},
    }
    head = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (head + b"." + part(hmac.new(secret.encode(), head, hashlib.sha256).digest())).decode()


def picture(step):
    frame = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    frame[:, : WIDTH // 2] = (*LEFT, 255)
    frame[:, WIDTH // 2 :] = (*RIGHT, 255)
    at = step * 24 % (WIDTH - 80)
    frame[HEIGHT // 3 : 2 * HEIGHT // 3, at : at + 80] = 255
    return rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.RGBA, frame.tobytes())


async def play(video, audio):
    """Feeds both sources in real time until cancelled."""

    async def tone():
        size = RATE // 100
        start = 0
        while True:
            wave = np.sin(2 * np.pi * PITCH * (np.arange(size) + start) / RATE) * 10_000
            start += size
            await audio.capture_frame(rtc.AudioFrame(wave.astype(np.int16).tobytes(), RATE, 1, size))

    async def motion():
        began, step = time.monotonic(), 0
        while True:
            video.capture_frame(picture(step))
            step += 1
            await asyncio.sleep(max(0, began + step / 15 - time.monotonic()))

    await asyncio.gather(tone(), motion())


class Listener:
    """One who subscribes, and remembers what came."""

    def __init__(self, name):
        self.name = name
        self.room = rtc.Room()
        self.events = []
        self.frames = {}  # source -> [(when, width, height, left, right, image)]
        self.sound = []  # (when, rms, hertz)
        self.tasks = []
        self.room.on("track_subscribed", self.subscribed)
        for event in ("track_muted", "track_unmuted", "participant_disconnected"):
            self.room.on(event, lambda *a, event=event: self.events.append((event, a)))

    def subscribed(self, track, publication, participant):
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            watch = self.hear(track)
        else:
            watch = self.see(track, self.frames.setdefault(publication.source, []))
        self.tasks.append(asyncio.ensure_future(watch))

    async def see(self, track, frames):
        async for event in rtc.VideoStream(track, format=rtc.VideoBufferType.RGBA):
            f = event.frame
            image = np.frombuffer(f.data, np.uint8).reshape(f.height, f.width, 4)[:, :, :3]
            # Corners: the bar never comes there.
            edge = max(4, f.height // 8)
            left = image[:edge, :edge].mean(axis=(0, 1))
            right = image[:edge, -edge:].mean(axis=(0, 1))
            small = image[:: max(1, f.height // 36), :: max(1, f.width // 64)].astype(np.int16)
            frames.append((time.monotonic(), f.width, f.height, left, right, small))
            del frames[:-200]

    async def hear(self, track):
        async for event in rtc.AudioStream(track, sample_rate=RATE, num_channels=1):
            wave = np.frombuffer(event.frame.data, np.int16).astype(float)
            rising = np.count_nonzero((wave[:-1] < 0) & (wave[1:] >= 0))
            hertz = rising * RATE / max(1, len(wave))
            self.sound.append((time.monotonic(), float(np.sqrt((wave**2).mean())), hertz))
            del self.sound[:-500]

    def hears_tone(self, since):
        """Half a second of the tone: loud, and at its pitch on average."""
        new = [s for s in self.sound if s[0] > since][-50:]
        loud = [s for s in new if s[1] > 2_000]
        return len(loud) >= 45 and abs(np.mean([s[2] for s in loud]) - PITCH) < 30

    def hears_silence(self):
        new = [s for s in self.sound if s[0] > time.monotonic() - 0.5]
        return len(new) >= 25 and all(s[1] < 200 for s in new)

    def sees_picture(self, since, source=rtc.TrackSource.SOURCE_CAMERA):
        """The full size, the right colours, and motion."""
        all_of_it = self.frames.get(source, [])
        new = [f for f in all_of_it if f[0] > since and f[1:3] == (WIDTH, HEIGHT)]
        if len(new) < 10:
            return False
        _, _, _, left, right, last = new[-1]
        coloured = np.abs(left - LEFT).max() < 40 and np.abs(right - RIGHT).max() < 40
        moving = np.abs(last - new[-6][5]).max() > 60
        return bool(coloured and moving)

    def happened(self, event):
        return any(name == event for name, _ in self.events)

    async def close(self):
        for task in self.tasks:
            task.cancel()
        await self.room.disconnect()


async def path(room):
    """By which pair of candidates media goes, as the client tells it: one for each connection."""
    stats = await room.get_rtc_stats()
    pairs = []
    for side in (stats.publisher_stats, stats.subscriber_stats):
        known = {}
        for one in side:
            kind = one.WhichOneof("stats")
            known.setdefault(kind, {})[getattr(one, kind).rtc.id] = getattr(one, kind)
        chosen = {one.transport.selected_candidate_pair_id for one in known.get("transport", {}).values()}
        for pair in (known["candidate_pair"][id].candidate_pair for id in chosen if id):
            local = known["local_candidate"][pair.local_candidate_id].candidate
            remote = known["remote_candidate"][pair.remote_candidate_id].candidate
            pairs.append(f"{ending(local)} to {ending(remote)}")
    return "; ".join(pairs)


def ending(candidate):
    """`prflx udp 192.0.2.1`; of one that is relayed also how it reaches its relay."""

    def word(field):
        values = candidate.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
        return values[getattr(candidate, field)].name.removeprefix("TRANSPORT_").lower()

    words = [word("candidate_type"), candidate.protocol, candidate.address]
    if candidate.HasField("relay_protocol"):
        words.append(f"by {word('relay_protocol')}")
    return " ".join(words)


async def until(what, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"FAILED: {what} did not happen within {PATIENCE:.0f} s")
        await asyncio.sleep(0.05)
    print(f"  {what}", flush=True)


class Sender:
    """One who publishes the tone and pictures."""

    def __init__(self, room):
        self.room = room
        self.audio = rtc.AudioSource(RATE, 1, queue_size_ms=200)
        self.video = rtc.VideoSource(WIDTH, HEIGHT)
        self.microphone = rtc.LocalAudioTrack.create_audio_track("tone", self.audio)

    async def publish_tone(self):
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False)
        await self.room.local_participant.publish_track(self.microphone, options)

    async def publish_picture(self, codec, source=rtc.TrackSource.SOURCE_CAMERA):
        """In simulcast; several tracks show the same picture."""
        track = rtc.LocalVideoTrack.create_video_track("picture", self.video)
        options = rtc.TrackPublishOptions(source=source, simulcast=True, video_codec=codec)
        await self.room.local_participant.publish_track(track, options)
        return track

    def play(self):
        return asyncio.ensure_future(play(self.video, self.audio))


def run(name, scenario, usage, seconds=120):
    """Runs `scenario(url, key, secret, *rest)`; the exit code tells the result.

    A scenario that went well ends the process at once: threads of the SDK go on calling back into Python,
    and one that meets the interpreter while it shuts down is unwound through Rust, which aborts.
    """
    if len(sys.argv) < 4:
        raise SystemExit(usage)
    began = time.monotonic()
    asyncio.run(asyncio.wait_for(scenario(*sys.argv[1:]), seconds))
    print(f"python {name}: ok in {time.monotonic() - began:.1f} s", flush=True)
    os._exit(0)
