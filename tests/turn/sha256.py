"""A TURN client of RFC 8489 that shares no code with the server: sha256.py PORT hidden|named.

It takes the better password algorithm from the challenge, hides its name if the nonce says that it
may, allocates and ends the allocation; and it tries to be talked into less.
"""

import base64
import hashlib
import hmac
import os
import socket
import struct
import sys

REALM, NAME, PASSWORD = b"example.org", b"alice", b"alice-password"
COOKIE = 0x2112A442
ALLOCATE, REFRESH = 3, 4
LIST = b"\0\2\0\0\0\1\0\0"
SHA256, MD5 = b"\0\2\0\0", b"\0\1\0\0"


def attribute(kind, value):
    return struct.pack("!HH", kind, len(value)) + value + b"\0" * (-len(value) % 4)


def attributes(message):
    found, at = {}, 20
    while at < len(message):
        kind, size = struct.unpack_from("!HH", message, at)
        found.setdefault(kind, (at, message[at + 4 : at + 4 + size]))
        at += 4 + size + -size % 4
    return found


def tag(key, message, at):
    """HMAC-SHA256 as if the message ended with the attribute that begins there."""
    head = message[:2] + struct.pack("!H", at + 36 - 20) + message[4:at]
    return hmac.new(key, head, hashlib.sha256).digest()


class Client:
    def __init__(self, port):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", port))
        challenge = attributes(self.ask(ALLOCATE, [(0x19, b"\x11\0\0\0")], None))
        assert challenge[9][1][2:4] == b"\4\1", challenge
        self.nonce = challenge[0x15][1]
        assert self.nonce[:9] == b"obMatJos2"
        features = int.from_bytes(base64.b64decode(self.nonce[9:13]), "big")
        assert features & 1 and challenge[0x8002][1] == LIST
        self.hides = bool(features & 2)

    def ask(self, method, more, key):
        body = b"".join(attribute(*one) for one in more)
        message = struct.pack("!HHI", method, 0, COOKIE) + os.urandom(12) + body
        if key:
            mac = tag(key, message, len(message))
            message += attribute(0x1C, mac)
        message = message[:2] + struct.pack("!H", len(message) - 20) + message[4:]
        self.socket.send(message)
        answer = self.socket.recv(2048)
        assert answer[8:20] == message[8:20]
        return answer

    def code(self, method, listed=LIST, chosen=SHA256, lifetime=None):
        kind = hashlib.sha256 if chosen == SHA256 else hashlib.md5
        key = kind(b":".join([NAME, REALM, PASSWORD])).digest()
        if self.hides:
            name = (0x1E, hashlib.sha256(NAME + b":" + REALM).digest())
        else:
            name = (0x06, NAME)
        more = [(0x19, b"\x11\0\0\0")] if method == ALLOCATE else []
        if lifetime is not None:
            more.append((0x0D, struct.pack("!I", lifetime)))
        more += [name, (0x14, REALM), (0x15, self.nonce), (0x8002, listed), (0x1D, chosen)]
        answer = self.ask(method, more, key)
        found = attributes(answer)
        failed = found.get(9)
        if not failed:
            at, mac = found[0x1C]
            assert mac == tag(key, answer, at), "the answer is not signed by the server"
        return failed[1][2] * 100 + failed[1][3] if failed else 0


client = Client(int(sys.argv[1]))
assert client.hides == (sys.argv[2] == "hidden"), client.nonce
assert client.code(ALLOCATE, listed=MD5, chosen=MD5) == 400
assert client.code(ALLOCATE) == 0
assert client.code(REFRESH, lifetime=600) == 0
good, client.nonce = client.nonce, client.nonce.replace(b"AAA", b"AAB")
assert client.code(REFRESH) == 438
client.nonce = good
assert client.code(REFRESH, chosen=MD5, lifetime=0) == 0
assert client.code(REFRESH, lifetime=0) == 437
