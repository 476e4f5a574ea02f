"""aioice against the TURN server: relay.py UDP_PORT TCP_PORT TLS_PORT PEER_PORT

Relays over each transport to a peer that sends everything back, is told off for a wrong password,
and lets two agents of ICE find each other by nothing but their relays.
"""

import asyncio
import ssl
import sys

import aioice
from aioice import Candidate, stun, turn

UDP, TCP, TLS, PEER = (int(text) for text in sys.argv[1:5])
HOST = "127.0.0.1"


class Echo(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = asyncio.Queue()

    def datagram_received(self, data, addr):
        self.received.put_nowait((data, addr))


async def endpoint(transport, password="alice-password"):
    port, tls = {"udp": (UDP, None), "tcp": (TCP, None), "tls": (TLS, True)}[transport]
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return await turn.create_turn_endpoint(
        Echo,
        server_addr=(HOST, port),
        username="alice",
        password=password,
        ssl=context,
        transport="udp" if transport == "udp" else "tcp",
    )


async def relays(transport):
    carrier, protocol = await endpoint(transport)
    for size in (1, 3, 172, 1200):
        data = bytes([size % 256]) * size
        carrier.sendto(data, (HOST, PEER))
        back, addr = await asyncio.wait_for(protocol.received.get(), 10)
        assert (back, addr) == (data, (HOST, PEER)), (transport, size, addr)
    carrier.close()


async def is_told_off(transport):
    try:
        await endpoint(transport, password="wrong")
    except stun.TransactionFailed as failure:
        code = failure.response.attributes["ERROR-CODE"][0]
        assert code == 401, code
    else:
        raise AssertionError("a wrong password allocated")


def agent(controlling, transport):
    port, tcp = (UDP, "udp") if transport == "udp" else (TCP, "tcp")
    return aioice.Connection(
        ice_controlling=controlling,
        turn_server=(HOST, port),
        turn_username="alice" if controlling else "bob",
        turn_password="alice-password" if controlling else "bob-password",
        turn_transport=tcp,
    )


async def agents_meet(first, second):
    one, two = agent(True, first), agent(False, second)
    await asyncio.gather(one.gather_candidates(), two.gather_candidates())
    for here, there in ((one, two), (two, one)):
        relayed = [c for c in here.local_candidates if c.type == "relay"]
        assert relayed, here.local_candidates
        for candidate in relayed:
            await there.add_remote_candidate(Candidate.from_sdp(candidate.to_sdp()))
        await there.add_remote_candidate(None)
        there.remote_username, there.remote_password = here.local_username, here.local_password
    await asyncio.wait_for(asyncio.gather(one.connect(), two.connect()), 30)
    await one.send(b"hello")
    assert await asyncio.wait_for(two.recv(), 10) == b"hello"
    await two.send(b"hi")
    assert await asyncio.wait_for(one.recv(), 10) == b"hi"
    await asyncio.gather(one.close(), two.close())


async def main():
    for transport in ("udp", "tcp", "tls"):
        await relays(transport)
        await is_told_off(transport)
        print("aioice relays over", transport)
    await agents_meet("udp", "udp")
    await agents_meet("udp", "tcp")
    print("aioice agents meet over their relays")


asyncio.run(main())
