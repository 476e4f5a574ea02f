"""End-to-end encryption in libwebrtc: encrypted.py URL KEY SECRET

A publishes a tone and the picture in VP8 and in H264, all in simulcast and encrypted under a shared
key. B, who has the key, hears and sees; Eve, who has another, gets the tracks but neither hears nor
sees. Words go the same way. The exit code tells the result.
"""

import time

from livekit import rtc
from stage import Listener, Sender, run, token, until

KEY = b"a key shared by a and b"
STATE = rtc.EncryptionState


def encrypted(key):
    # Without ratcheting: deriving sixteen keys for each frame that does not decrypt is slow.
    keys = rtc.KeyProviderOptions(shared_key=key, ratchet_window_size=0, failure_tolerance=0)
    return rtc.E2EEOptions(key_provider_options=keys)


class Reader(Listener):
    """A listener who also reads, and notes how decryption goes."""

    def __init__(self, name):
        super().__init__(name)
        self.words = []
        self.states = set()
        self.tracks = 0
        self.room.on("data_received", lambda packet: self.words.append(packet.data.decode()))
        self.room.on("e2ee_state_changed", lambda who, state: self.states.add(state))
        self.room.on("track_subscribed", self.count)

    def count(self, *_):
        self.tracks += 1


async def scenario(url, key, secret):
    room = f"encrypted-{time.time_ns()}"

    def join(who, name, media_key, single):
        options = rtc.RoomOptions(single_peer_connection=single, encryption=encrypted(media_key))
        return who.connect(url, token(key, secret, name, room), options)

    a, b, eve = rtc.Room(), Reader("b"), Reader("eve")
    await join(a, "a", KEY, True)
    await join(b.room, "b", KEY, False)
    await join(eve.room, "eve", b"a guess", True)
    sender = Sender(a)
    await sender.publish_tone()
    playing = sender.play()
    camera, screen = rtc.TrackSource.SOURCE_CAMERA, rtc.TrackSource.SOURCE_SCREENSHARE
    await sender.publish_picture(rtc.VideoCodec.VP8, camera)
    await sender.publish_picture(rtc.VideoCodec.H264, screen)
    for one in (b, eve):
        await until(f"{one.name} has all three tracks", lambda one=one: one.tracks == 3)
    await until("b sees VP8 decrypted", lambda: b.sees_picture(0, camera))
    await until("b sees H264 decrypted", lambda: b.sees_picture(0, screen))
    await until("b hears the tone decrypted", lambda: b.hears_tone(0))
    await until("b is told that decryption works", lambda: STATE.OK in b.states)
    await until("eve is told that decryption fails", lambda: STATE.DECRYPTION_FAILED in eve.states)

    await a.local_participant.publish_data("a word", reliable=True)
    await until("b reads a word", lambda: b.words == ["a word"])
    await until("eve hears silence", eve.hears_silence)
    frames = sum(map(len, eve.frames.values()))
    if frames or eve.words:
        raise SystemExit(f"FAILED: eve got {frames} frames, {eve.sound[-3:]}, {eve.words}")
    print("  eve sees, hears and reads nothing")
    playing.cancel()
    for one in (b, eve):
        await one.close()
    await a.disconnect()


run("encrypted", scenario, __doc__)
