"""Data through the Python SDK: conversation.py URL KEY SECRET

A and B have one peer connection, C has two. Packets (reliable, lossy, to one alone), streams of text
and bytes, and calls of methods with all the ways in which they fail. The exit code tells the result.
"""

import asyncio
import hashlib
import time

from livekit import rtc
from stage import run, token, until

# Characters of two to four bytes, so that a cut between two chunks may fall within one.
TEXT = "wörds – 文字 – 🎈 " * 4000
FILE = bytes((n * 31 + (n >> 8)) & 0xFF for n in range(200_000))
ERROR = rtc.RpcError.ErrorCode


class Talker:
    """One who keeps what others send."""

    def __init__(self, name):
        self.name = name
        self.room = rtc.Room()
        self.packets = []  # (from, topic, text, reliable)
        self.texts = []  # (from, text)
        self.files = []  # (from, name, digest)
        self.tasks = []
        self.room.on("data_received", self.keep)
        self.room.register_text_stream_handler("chat", self.reading(self.read_text))
        self.room.register_byte_stream_handler("file", self.reading(self.read_file))

    def keep(self, packet):
        reliable = packet.kind == rtc.DataPacketKind.KIND_RELIABLE
        sender = packet.participant and packet.participant.identity
        self.packets.append((sender, packet.topic, packet.data.decode(), reliable))

    def reading(self, read):
        return lambda reader, sender: self.tasks.append(asyncio.ensure_future(read(reader, sender)))

    async def read_text(self, reader, sender):
        self.texts.append((sender, await reader.read_all()))

    async def read_file(self, reader, sender):
        data = b"".join([chunk async for chunk in reader])
        self.files.append((sender, reader.info.name, hashlib.sha256(data).hexdigest()))

    @property
    def me(self):
        return self.room.local_participant

    def answer(self):
        """The methods others may call."""

        @self.me.register_rpc_method("shout")
        async def shout(call):
            return f"{call.caller_identity}: {call.payload.upper()}"

        @self.me.register_rpc_method("refuse")
        async def refuse(call):
            raise rtc.RpcError(4711, "not today", call.payload)

        @self.me.register_rpc_method("stumble")
        async def stumble(call):
            raise ValueError("a secret of the handler")

        @self.me.register_rpc_method("dawdle")
        async def dawdle(call):
            await asyncio.Event().wait()


async def packets(a, b, c):
    for n in range(20):
        await a.me.publish_data(f"word {n}", topic="words")
    await a.me.publish_data("for c alone", topic="words", destination_identities=["c"])
    await a.me.publish_data("the end", topic="words")
    common = [("a", "words", f"word {n}", True) for n in range(20)]
    alone, end = ("a", "words", "for c alone", True), ("a", "words", "the end", True)
    await until("b reads all words in order", lambda: b.packets == [*common, end])
    await until("c reads its own too", lambda: c.packets == [*common, alone, end])
    fleeting = ("c", "lossy", "fleeting", False)
    deadline = time.monotonic() + 10
    while not (fleeting in a.packets and fleeting in b.packets):
        if time.monotonic() > deadline:
            raise SystemExit(f"FAILED: lossy packets do not arrive: {a.packets[-3:]}, {b.packets[-3:]}")
        await c.me.publish_data("fleeting", topic="lossy", reliable=False)
        await asyncio.sleep(0.1)
    print("  a and b read lossy packets of c", flush=True)


async def streams(a, b, c):
    await b.me.send_text(TEXT, topic="chat")
    await b.me.send_text("psst", topic="chat", destination_identities=["a"])
    await b.me.send_text("done", topic="chat")
    texts = [("b", TEXT), ("b", "psst"), ("b", "done")]
    await until("a reads long and short texts", lambda: sorted(a.texts) == sorted(texts))
    await until("c reads those for all", lambda: sorted(c.texts) == sorted(texts[::2]))
    await c.me.send_bytes(FILE, topic="file", name="holiday.jpg")
    file = ("c", "holiday.jpg", hashlib.sha256(FILE).hexdigest())
    await until("a and b get a file of c", lambda: a.files == [file] and b.files == [file])


async def fails(caller, code, to, method, payload="", **more):
    try:
        answer = await caller.me.perform_rpc(destination_identity=to, method=method, payload=payload, **more)
    except rtc.RpcError as error:
        if error.code != code:
            raise SystemExit(f"FAILED: {method} of {to}: {error.code} {error.message}") from error
        print(f"  {caller.name} calls {method} of {to}: {error.code} {error.message}", flush=True)
        return error
    raise SystemExit(f"FAILED: {method} of {to} answers {answer}")


async def calls(a, b, c):
    long = "a long question " * 500
    for caller, called in ((a, c), (c, a), (a, b)):
        loud = await caller.me.perform_rpc(
            destination_identity=called.name, method="shout", payload=long
        )
        if loud != f"{caller.name}: {long.upper()}":
            raise SystemExit(f"FAILED: {caller.name} calls {called.name}: {loud[:80]}")
        print(f"  {caller.name} calls {called.name}", flush=True)
    refusal = await fails(a, 4711, "c", "refuse", "why")
    if (refusal.message, refusal.data) != ("not today", "why"):
        raise SystemExit(f"FAILED: the refusal came as {refusal.message}, {refusal.data}")
    stumbled = await fails(a, ERROR.APPLICATION_ERROR, "c", "stumble")
    if "secret" in stumbled.message:
        raise SystemExit(f"FAILED: {stumbled.message}")
    await asyncio.gather(
        fails(c, ERROR.UNSUPPORTED_METHOD, "a", "nothing"),
        fails(c, ERROR.RESPONSE_TIMEOUT, "a", "dawdle", response_timeout=1.0),
        fails(b, ERROR.CONNECTION_TIMEOUT, "nobody", "shout", response_timeout=8.0, max_round_trip_latency=2.0),
    )


async def scenario(url, key, secret):
    room = f"conversation-{time.time_ns()}"
    all_three = a, b, c = [Talker(name) for name in "abc"]
    for one in all_three:
        options = rtc.RoomOptions(single_peer_connection=one is not c)
        await one.room.connect(url, token(key, secret, one.name, room), options)
        one.answer()
    knows = lambda one: len(one.room.remote_participants) == 2  # noqa: E731
    await until("all know all", lambda: all(map(knows, all_three)))
    await packets(a, b, c)
    await streams(a, b, c)
    await calls(a, b, c)
    for one in all_three:
        await one.room.disconnect()


run("conversation", scenario, __doc__)
