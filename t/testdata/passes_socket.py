"""Starts postern as systemd does, with a listening socket: passes_socket.py NAME HOST PORT PROGRAM ARG..."""
import os
import socket
import sys

name, host, port, command = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
s = socket.create_server((host, port))
if s.fileno() != 3:
    os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES=name, LISTEN_PID=str(os.getpid()))
os.execvp(command[0], command)
