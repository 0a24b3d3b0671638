"""Ports for servers of the tests' own."""

import random
import socket


def free_port() -> int:
    """One that nobody listens at, and that no connection is given by itself while its server stands still.

    Linux and Windows give those that ask for any from 32768 on.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)):
                return port
