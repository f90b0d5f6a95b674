"""aiosmtpd as a server that keeps what it takes: /usr/bin/python3 aiosmtpd_serves.py HOST PORT FOLDER [CERT KEY]

It refuses gone@, says 421 and hangs up at the first RCPT for leaves@, hangs up
behind the first message for drops@ without an answer, and defers later@."""
import asyncio
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP

host, port, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
met = set()


def first(name):
    new = name not in met
    met.add(name)
    return new


class Keeper:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        name = address.split("@")[0]
        if name == "gone":
            return "550 5.1.1 aiosmtpd knows nobody of this name"
        if name == "later":
            return "451 4.7.1 aiosmtpd wants to hear of it later"
        if name == "leaves" and first(name):
            await server.push("421 4.3.2 aiosmtpd has to leave")
            server.transport.close()
            return "421 4.3.2 unheard"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server, session, envelope):
        name = envelope.rcpt_tos[0].split("@")[0]
        if name == "drops" and first(name):
            server.transport.abort()
            return "451 unheard"
        if name == "odd":
            return "554-5.6.0 aiosmtpd likes it not,\r\n554-5.6.0 for reasons\r\n554 5.6.0 of three lines"
        path = os.path.join(folder, name)
        with open(path + ".new", "wb") as f:
            f.write(envelope.original_content)
        os.rename(path + ".new", path)
        print("took", name, "by TLS" if session.ssl else "in the clear", envelope.mail_options, flush=True)
        return "250 2.0.0 kept"


def serve():
    context = None
    if len(sys.argv) > 4:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[4], sys.argv[5])
    return SMTP(Keeper(), hostname="peer.example", enable_SMTPUTF8=True, tls_context=context, data_size_limit=1 << 20)


async def main():
    server = await asyncio.get_running_loop().create_server(serve, host, port)
    async with server:
        await server.serve_forever()


asyncio.run(main())
