"""How long a participant waits for media: first_media.py URL KEY SECRET TRIES

A publishes a tone and a moving picture all the time. So often B connects anew, and a line of JSON tells
when it was connected, heard the first sound and saw the first picture, in ms since it began to connect;
and by what it came.
"""

import asyncio
import json
import time

import numpy as np
from livekit import rtc
from stage import PATIENCE, RATE, Listener, Sender, path, run, token, until


class First:
    """Notes when the first of each comes."""

    def __init__(self):
        self.room = rtc.Room()
        self.came = {}
        self.tasks = []
        self.all = asyncio.Event()
        self.room.on("track_subscribed", self.subscribed)

    def subscribed(self, track, *_):
        watch = self.hear if track.kind == rtc.TrackKind.KIND_AUDIO else self.see
        self.tasks.append(asyncio.ensure_future(watch(track)))

    def note(self, what):
        self.came.setdefault(what, time.monotonic())
        if {"sound", "picture"} <= self.came.keys():
            self.all.set()

    async def hear(self, track):
        async for event in rtc.AudioStream(track, sample_rate=RATE, num_channels=1):
            # Silence is played before anything has come.
            if np.abs(np.frombuffer(event.frame.data, np.int16)).max() > 1_000:
                return self.note("sound")

    async def see(self, track):
        async for _ in rtc.VideoStream(track):
            return self.note("picture")


async def attempt(url, pass_):
    first = First()
    began = time.monotonic()
    await first.room.connect(url, pass_, rtc.RoomOptions(auto_subscribe=True, single_peer_connection=True))
    first.came["connected"] = time.monotonic()
    await asyncio.wait_for(first.all.wait(), PATIENCE)
    times = {what: round((at - began) * 1000) for what, at in first.came.items()}
    print(json.dumps({**times, "path": await path(first.room)}), flush=True)
    for task in first.tasks:
        task.cancel()
    await first.room.disconnect()


async def scenario(url, key, secret, tries):
    room = f"first-media-{time.time_ns()}"
    options = rtc.RoomOptions(single_peer_connection=True)
    a, witness = rtc.Room(), Listener("witness")
    await a.connect(url, token(key, secret, "a", room), options)
    await witness.room.connect(url, token(key, secret, "witness", room), options)
    sender = Sender(a)
    await sender.publish_tone()
    await sender.publish_picture(rtc.VideoCodec.VP8)
    playing = sender.play()
    # Whoever comes later comes to media that flows.
    await until("the witness hears", lambda: witness.hears_tone(0))
    await until("the witness sees", lambda: witness.sees_picture(0))
    await witness.close()
    for n in range(int(tries)):
        # A publisher is asked for a key frame once in a second: nobody is to come in another's shadow.
        await asyncio.sleep(1.5)
        await attempt(url, token(key, secret, f"b{n}", room))
    playing.cancel()
    await a.disconnect()


run("first_media", scenario, __doc__, seconds=500)
