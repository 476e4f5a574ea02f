"""A call of two that something happens to: moved.py URL KEY SECRET

A publishes a tone and a moving picture, B hears and sees them. Then it says `ready` and waits for a line
at its standard input; B must hear and see again, and nobody may have left. The exit code tells the result.
"""

import asyncio
import sys
import time

from livekit import rtc
from stage import Listener, Sender, path, run, token, until


async def scenario(url, key, secret):
    room = f"moved-{time.time_ns()}"
    b, a = Listener("b"), rtc.Room()
    left = []
    a.on("participant_disconnected", lambda who: left.append(who.identity))
    for name, who in (("b", b.room), ("a", a)):
        options = rtc.RoomOptions(auto_subscribe=True, single_peer_connection=True)
        await who.connect(url, token(key, secret, name, room), options)
    sender = Sender(a)
    await sender.publish_tone()
    await sender.publish_picture(rtc.VideoCodec.VP8)
    playing = sender.play()
    await until("b hears the tone", lambda: b.hears_tone(0))
    await until("b sees the picture", lambda: b.sees_picture(0))
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    since = time.monotonic()
    await until("b hears the tone afterwards", lambda: b.hears_tone(since))
    await until("b sees the picture afterwards", lambda: b.sees_picture(since))
    # Half a second of each was waited for.
    print(f"  both are back after {(time.monotonic() - since - 0.5) * 1000:.0f} ms", flush=True)
    # Whoever resumes meanwhile is done with it, and media still comes.
    connected = rtc.ConnectionState.CONN_CONNECTED
    await until("both are connected", lambda: {a.connection_state, b.room.connection_state} == {connected})
    since = time.monotonic()
    await until("b still hears the tone", lambda: b.hears_tone(since))
    await until("b still sees the picture", lambda: b.sees_picture(since))
    for name, who in (("a", a), ("b", b.room)):
        print(f"  {name} goes from {await path(who)}", flush=True)
    if left or b.happened("participant_disconnected"):
        raise SystemExit("FAILED: somebody left")
    playing.cancel()
    await a.disconnect()
    await b.close()


run("moved", scenario, __doc__)
