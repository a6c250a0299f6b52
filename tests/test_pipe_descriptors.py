"""What a program does itself with the descriptors of a pipe, whose messages go through memory."""

from __future__ import annotations

import os
from typing import Any

import pytest

import shoal

METHODS = ("fork", "spawn", "forkserver")


def write_and_send(sender: Any) -> None:
    os.write(sender.fileno(), b"by hand")
    sender.send("a message")


@pytest.mark.parametrize("method", METHODS)
def test_bytes_written_to_a_senders_descriptor_are_named_to_the_receiver_and_messages_arrive(method: str):
    context = shoal.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=write_and_send, args=(sender,))
    process.start()
    process.join()
    assert receiver.recv() == "a message"
    for _ in range(2):
        with pytest.raises(OSError, match="b'by hand' was written to the other end's descriptor"):
            receiver.recv()
    sender.close()
    with pytest.raises(OSError, match="b'by hand'"):
        receiver.recv_bytes()


def test_the_end_of_file_is_as_ever():
    receiver, sender = shoal.Pipe(duplex=False)
    sender.close()
    with pytest.raises(EOFError):
        receiver.recv()
