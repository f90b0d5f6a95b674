"""Sends a file through a unix socket: python3 by_unix_socket.py PATH FILE"""
import smtplib
import socket
import sys

path, file = sys.argv[1:]


class Client(smtplib.SMTP):
    def _get_socket(self, host, port, timeout):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(timeout)
        s.connect(path)
        return s


with open(file, "rb") as f, Client("mx.example.net", 25, local_hostname="client.example", timeout=20) as c:
    c.sendmail("a@client.example", ["b@example.net"], f.read().replace(b"\n", b"\r\n"))
