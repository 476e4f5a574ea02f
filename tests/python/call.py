"""A call of three through real libwebrtc: call.py URL KEY SECRET [dual | brief]

A publishes a tone and a moving picture in simulcast; B and C must hear the tone (its pitch), and
see the picture (its colours, its motion, its full size), and each tells by which candidates it goes. Then
mute, unmute and leave, but with `brief`. Each has one peer connection; or with `dual` two, but B one. The
exit code tells the result.
"""

import time

from livekit import rtc
from stage import Listener, Sender, path, run, token, until


async def scenario(url, key, secret, kind="single"):
    room = f"python-{time.time_ns()}"

    def join(who, name):
        single = kind != "dual" or name == "b"
        options = rtc.RoomOptions(auto_subscribe=True, single_peer_connection=single)
        return who.connect(url, token(key, secret, name, room), options)

    b, c, a = Listener("b"), Listener("c"), rtc.Room()
    await join(b.room, "b")
    await join(a, "a")
    print(f"  connected to {room}", flush=True)

    sender = Sender(a)
    await sender.publish_tone()
    camera = await sender.publish_picture(rtc.VideoCodec.VP8)
    playing = sender.play()
    await join(c.room, "c")  # a late joiner

    for listener in (b, c):
        await until(f"{listener.name} hears the tone", lambda l=listener: l.hears_tone(0))
        await until(f"{listener.name} sees the picture", lambda l=listener: l.sees_picture(0))

    for name, who in (("a", a), ("b", b.room), ("c", c.room)):
        print(f"  {name} goes from {await path(who)}", flush=True)
    if kind != "brief":
        await to_the_end((a, b, c), sender, camera)
    playing.cancel()
    for one in (b, c):
        await one.close()
    await a.disconnect()


async def to_the_end(all_three, sender, camera):
    a, b, c = all_three
    sender.microphone.mute()
    camera.mute()
    for listener in (b, c):
        await until(f"{listener.name} learns of the mute", lambda l=listener: l.happened("track_muted"))
        await until(f"{listener.name} hears silence", listener.hears_silence)
    sender.microphone.unmute()
    camera.unmute()
    since = time.monotonic()
    for listener in (b, c):
        await until(f"{listener.name} hears again", lambda l=listener: l.hears_tone(since))
        await until(f"{listener.name} sees again", lambda l=listener: l.sees_picture(since))

    await a.disconnect()
    for listener in (b, c):
        gone = lambda l=listener: l.happened("participant_disconnected")  # noqa: E731
        await until(f"{listener.name} sees a leave", gone)
    # Who does not publish may be announced up to three seconds late.
    others = lambda: "a" not in b.room.remote_participants and "c" in b.room.remote_participants  # noqa: E731
    await until("b still knows c", others)


run("call", scenario, __doc__)
