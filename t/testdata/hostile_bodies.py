"""Messages that servers like to change: python3 hostile_bodies.py HOST PORT FOLDER

Sends each by a socket of its own making, so that no library changes a byte, and
writes it into FOLDER under the name that is printed with its number."""
import base64
import os
import random
import socket
import sys

host, port, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rnd = random.Random(3)
HEAD = b"From: a@client.example\r\nSubject: bytes\r\n"
LINE = b"\r\n"


def five_mb():
    return HEAD + LINE + b"".join(base64.b64encode(rnd.randbytes(54)) + LINE for _ in range(5 * 1024 * 1024 // 74 + 1))


MESSAGES = [
    ("8bit", HEAD + b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\n" + bytes(range(0xA0, 0x100)) + b"\r\ngr\xfc\xdfe\r\n"),
    ("utf8", HEAD + b"\r\n" + "Grüße, привет, 你好, 🜂\r\n".encode() * 3),
    ("dots", HEAD + b"\r\n.\r\n..\r\n...\r\n.x\r\n \r\n.\r\n\r\n.\r\nlast.\r\n.\r\n"),
    ("long_lines", HEAD + b"\r\n" + b"x" * 998 + b"\r\n." + b"y" * 997 + b"\r\n" + b"z" * 997 + b".\r\n"),
    ("empty_body", HEAD + b"\r\n"),
    ("head_only", HEAD),
    ("no_header", b"\r\nonly a body\r\n"),
    ("blank_first", HEAD + b"\r\n\r\n\r\nthe body starts with blank lines\r\n"),
    ("nothing", b""),
    ("blank_end", HEAD + b"\r\ntext\r\n\r\n\r\n\r\n"),
    ("spaces", HEAD + b"\r\n \r\n\t\r\n trailing blanks   \r\n\ttab\t\r\n" + b" " * 500 + b"\r\n"),
    ("folded", HEAD + b"X-Folded: one\r\n\ttwo\r\n    three\r\nX-Twice: a\r\nX-Twice: b\r\nx-lower:no blank\r\nX-Empty:\r\n"
     b"Received: from old.example by older.example; Tue, 03 Nov 2026 09:00:00 +0000\r\n\r\nb\r\n"),
    ("controls", HEAD + b"\r\n" + bytes(c for c in range(1, 32) if c not in (10, 13)) + b"\x7f\xff\xfe\r\n"),
    ("from_lines", HEAD + b"\r\nFrom someone Tue Nov  3 10:00:00 2026\r\n>From there\r\n"),
    ("looks_like_smtp", HEAD + b"\r\nQUIT\r\nMAIL FROM:<x@y>\r\n354 go\r\nRSET\r\n"),
    ("no_colon", b"this is no header field\r\nnor is this\r\n\r\nbut this is a body\r\n"),
    ("five_mb", five_mb()),
    ("hundred", HEAD + b"\r\nto a hundred\r\n"),
]


class Wire:
    def __init__(self):
        self.s = socket.create_connection((host, port), timeout=20)
        self.f = self.s.makefile("rb")
        self.reply(220)

    def reply(self, code):
        line = self.f.readline()
        while line[3:4] == b"-":
            line = self.f.readline()
        assert line.startswith(b"%d" % code), line
        return line

    def say(self, line, code):
        self.s.sendall(line + LINE)
        return self.reply(code)


os.makedirs(folder, exist_ok=True)
w = Wire()
w.say(b"EHLO client.example", 250)
for n, (name, data) in enumerate(MESSAGES, 1):
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)
    w.say(b"MAIL FROM:<a@client.example> BODY=8BITMIME", 250)
    for r in [name] if name != "hundred" else ["hundred%d" % i for i in range(100)]:
        w.say(b"RCPT TO:<%s@example.net>" % r.encode(), 250)
    w.say(b"DATA", 354)
    stuffed = data.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    w.say(stuffed + b".", 250)
    print(n, name)
w.say(b"QUIT", 221)
