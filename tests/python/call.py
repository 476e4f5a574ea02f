"""A call of three through real libwebrtc: call.py URL KEY SECRET

A publishes a tone and a moving picture in simulcast; B and C must hear the tone (its pitch), and
see the picture (its colours, its motion, its full size). Then mute, unmute and leave. Every wait
has a deadline; the exit code tells the result.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import sys
import time

import numpy as np
from livekit import rtc

RATE = 48_000
PITCH = 440
WIDTH, HEIGHT = 960, 540
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
        self.frames = []  # (when, width, height, left, right, image)
        self.sound = []  # (when, rms, hertz)
        self.tasks = []
        self.room.on("track_subscribed", self.subscribed)
        for event in ("track_muted", "track_unmuted", "participant_disconnected"):
            self.room.on(event, lambda *a, event=event: self.events.append((event, a)))

    def subscribed(self, track, publication, participant):
        watch = self.hear if track.kind == rtc.TrackKind.KIND_AUDIO else self.see
        self.tasks.append(asyncio.ensure_future(watch(track)))

    async def see(self, track):
        async for event in rtc.VideoStream(track, format=rtc.VideoBufferType.RGBA):
            f = event.frame
            image = np.frombuffer(f.data, np.uint8).reshape(f.height, f.width, 4)[:, :, :3]
            # Corners: the bar never comes there.
            edge = max(4, f.height // 8)
            left = image[:edge, :edge].mean(axis=(0, 1))
            right = image[:edge, -edge:].mean(axis=(0, 1))
            small = image[:: max(1, f.height // 36), :: max(1, f.width // 64)].astype(np.int16)
            self.frames.append((time.monotonic(), f.width, f.height, left, right, small))
            del self.frames[:-200]

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
        return all(s[1] < 200 for s in new)

    def sees_picture(self, since):
        """The full size, the right colours, and motion."""
        new = [f for f in self.frames if f[0] > since and f[1:3] == (WIDTH, HEIGHT)]
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


async def until(what, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"FAILED: {what} did not happen within {PATIENCE:.0f} s")
        await asyncio.sleep(0.05)
    print(f"  {what}", flush=True)


async def scenario(url, key, secret):
    room = f"python-{time.time_ns()}"
    options = rtc.RoomOptions(auto_subscribe=True, single_peer_connection=True)
    b, c, a = Listener("b"), Listener("c"), rtc.Room()
    await b.room.connect(url, token(key, secret, "b", room), options)
    await a.connect(url, token(key, secret, "a", room), options)
    print(f"  connected to {room}", flush=True)

    audio, video = rtc.AudioSource(RATE, 1, queue_size_ms=200), rtc.VideoSource(WIDTH, HEIGHT)
    microphone = rtc.LocalAudioTrack.create_audio_track("tone", audio)
    camera = rtc.LocalVideoTrack.create_video_track("picture", video)
    await a.local_participant.publish_track(
        microphone, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False)
    )
    await a.local_participant.publish_track(
        camera,
        rtc.TrackPublishOptions(
            source=rtc.TrackSource.SOURCE_CAMERA, simulcast=True, video_codec=rtc.VideoCodec.VP8
        ),
    )
    playing = asyncio.ensure_future(play(video, audio))
    await c.room.connect(url, token(key, secret, "c", room), options)  # a late joiner

    for listener in (b, c):
        await until(f"{listener.name} hears the tone", lambda l=listener: l.hears_tone(0))
        await until(f"{listener.name} sees the picture", lambda l=listener: l.sees_picture(0))

    microphone.mute()
    camera.mute()
    for listener in (b, c):
        await until(f"{listener.name} learns of the mute", lambda l=listener: l.happened("track_muted"))
        await until(f"{listener.name} hears silence", listener.hears_silence)
    microphone.unmute()
    camera.unmute()
    since = time.monotonic()
    for listener in (b, c):
        await until(f"{listener.name} hears again", lambda l=listener: l.hears_tone(since))
        await until(f"{listener.name} sees again", lambda l=listener: l.sees_picture(since))

    playing.cancel()
    await a.disconnect()
    for listener in (b, c):
        gone = lambda l=listener: l.happened("participant_disconnected")  # noqa: E731
        await until(f"{listener.name} sees a leave", gone)
    # Who does not publish may be announced up to three seconds late.
    others = lambda: "a" not in b.room.remote_participants and "c" in b.room.remote_participants  # noqa: E731
    await until("b still knows c", others)
    await b.close()
    await c.close()


def main():
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    began = time.monotonic()
    asyncio.run(asyncio.wait_for(scenario(*sys.argv[1:]), 120))
    print(f"python call: ok in {time.monotonic() - began:.1f} s")


main()
