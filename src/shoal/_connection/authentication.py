"""The challenge by which both sides of a new connection prove that they know the authentication key, before anything is unpickled.

The protocol is the standard library's. The listening side sends a challenge, the other answers with the HMAC of it under the key, and is told WELCOME or FAILURE;
then the same with the roles changed. A challenge begins with the name of a digest in braces, and so does the answer: ``{sha256}``. CPython 3.11 and older know
no names: they challenge with 20 bare bytes and answer with the 16 bytes of HMAC-MD5. That is refused unless it is allowed, and the refusal says so.

A conversation is a generator, without input or output of its own, so that it can be held over anything, waiting or not: it yields the messages that are to be sent,
and None when it is to be given the next one that was received; or VERDICT, if that may be the last, after which come bytes that are none of its business (nothing
comes after another: both sides speak in turn). What goes wrong with that is thrown into it, and what comes out is what the user is told.

What the challenge does not do: it does not encrypt, and it does not stop somebody in the middle who hands the messages of two honest sides on to each other. TLS does.
"""

from __future__ import annotations

import os
from contextlib import suppress

from shoal import _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    Conversation = Generator[bytes | None, Any, None]  # is sent bytes, and None where it yielded some to be said

__all__ = [
    "ACCEPTED_DIGESTS",
    "LONGEST_MESSAGE",
    "VERDICT",
    "AuthenticationError",
    "accept_conversation",
    "answer",
    "answer_challenge",
    "client_conversation",
    "deliver",
    "deliver_challenge",
    "legacy_allowed",
]

AuthenticationError = _standard.context.AuthenticationError

LONGEST_MESSAGE = 256  # bytes that a side which has not proved itself may send at once
VERDICT = b""  # nothing is said, a verdict is to be heard
CHALLENGE = b"#CHALLENGE#"
WELCOME = b"#WELCOME#"
FAILURE = b"#FAILURE#"
REFUSED = b"#REFUSED#"  # no answer that any version takes for one: the other side fails at once, and says so
RANDOM_BYTES = 40
SHORTEST_CHALLENGE = 20  # bytes; a challenge of exactly so many is one of CPython 3.11 or older
MD5_BYTES = 16
# Digests that the standard library knows by name, and that need no permission.
ACCEPTED_DIGESTS = frozenset({"sha256", "sha384", "sha3_256", "sha3_384"})
LEGACY_DIGEST = "md5"
LONGEST_NAME = 16
USUAL = b"{sha256}"

ENVIRONMENT = "SHOAL_ALLOW_LEGACY"
TO_ALLOW = f"Give that side Python 3.12 or newer (or shoal); or allow it here with allow_legacy=True, under `shoal run` with {ENVIRONMENT}=1."


def legacy_allowed(asked: bool) -> bool:
    """Tell whether HMAC-MD5 may be used: the call says so, or the environment does."""
    return asked or os.environ.get(ENVIRONMENT) == "1"


# --- conversations ------------------------------------------------------------------------------------------------------


def accept_conversation(authkey: bytes | None, *, allow_legacy: bool) -> Conversation:
    """Return what a listener says to a new connection. Without a key, to be said over TLS: that the client's certificate was accepted."""
    if authkey is None:
        yield WELCOME
        return
    yield from deliver(authkey, "sha256", allow_legacy=allow_legacy)
    yield from answer(authkey, allow_legacy=allow_legacy)


def client_conversation(authkey: bytes | None, *, allow_legacy: bool) -> Conversation:
    """Return what a client says to a listener. Without a key, it waits to hear that its certificate was accepted."""
    if authkey is None:
        verdict = yield VERDICT
        if verdict.startswith(CHALLENGE):
            raise AuthenticationError("the listener has an authentication key: give it to the client, too (authkey=)")
        if verdict != WELCOME:
            raise AuthenticationError(f"a welcome was expected, and {_shown(verdict)} came: {OTHER}")
        return
    yield from answer(authkey, allow_legacy=allow_legacy)
    yield from deliver(authkey, "sha256", allow_legacy=allow_legacy)


def deliver(authkey: bytes, digest: str, *, allow_legacy: bool) -> Conversation:
    """Challenge the other side."""
    if digest not in ACCEPTED_DIGESTS and not (allow_legacy and digest == LEGACY_DIGEST):
        raise ValueError(f"digest {digest!r} cannot be used to challenge with: use one of {_names(ACCEPTED_DIGESTS)}")
    challenge = b"{%s}%s" % (digest.encode("ascii"), os.urandom(RANDOM_BYTES))
    yield CHALLENGE + challenge
    response = yield None
    try:
        _verify(authkey, challenge, response, allow_legacy=allow_legacy)
    except AuthenticationError:
        yield FAILURE
        raise
    yield WELCOME


def answer(authkey: bytes, *, allow_legacy: bool) -> Conversation:
    """Answer the other side's challenge."""
    message = yield None
    if not message.startswith(CHALLENGE):
        raise AuthenticationError(f"a challenge was expected, and {_shown(message)} came: {OTHER}")
    challenge = message[len(CHALLENGE) :]
    try:
        response = _respond(authkey, challenge, allow_legacy=allow_legacy)
    except AuthenticationError:
        yield REFUSED
        with suppress(
            Exception
        ):  # it is heard out, for who hangs up on somebody who writes breaks his pipe; what he says changes nothing
            yield None
        raise
    yield response
    verdict = yield VERDICT
    if verdict == FAILURE:
        raise AuthenticationError("digest sent was rejected: the two sides have different authentication keys")
    if verdict != WELCOME:
        raise AuthenticationError(f"digest sent was rejected: the other side says {_shown(verdict)}")


OTHER = "what is on the other side is no listener or client of multiprocessing with an authentication key"


def _respond(authkey: bytes, challenge: bytes, *, allow_legacy: bool) -> bytes:
    if len(challenge) < SHORTEST_CHALLENGE:
        raise AuthenticationError(f"challenge too short: {len(challenge)} bytes, {SHORTEST_CHALLENGE} at least")
    if len(challenge) == SHORTEST_CHALLENGE:
        _refuse_legacy(allow_legacy, "challenges with HMAC-MD5, all that CPython 3.11 and older speak")
        return _mac(authkey, challenge, LEGACY_DIGEST)
    digest, _ = _named(challenge, allow_legacy=allow_legacy)
    return b"{%s}%s" % (digest.encode("ascii"), _mac(authkey, challenge, digest))


def _verify(authkey: bytes, challenge: bytes, response: bytes, *, allow_legacy: bool) -> None:
    if len(response) == MD5_BYTES:
        _refuse_legacy(allow_legacy, "answers with HMAC-MD5, all that CPython 3.11 and older speak")
        digest, mac = LEGACY_DIGEST, response
    elif response == REFUSED:
        raise AuthenticationError("the other side refuses the challenge")
    else:
        digest, mac = _named(response, allow_legacy=allow_legacy)
    expected = _mac(authkey, challenge, digest)
    if not _hmac.compare_digest(expected, mac):
        raise AuthenticationError("digest received was wrong: the two sides have different authentication keys")


def _named(message: bytes, *, allow_legacy: bool) -> tuple[str, bytes]:
    """Return the digest that a message names, and what follows its name."""
    if message.startswith(USUAL):
        return "sha256", message[len(USUAL) :]
    end = message.find(b"}", 1, LONGEST_NAME + 2) if message.startswith(b"{") else -1
    name = message[1:end].decode("ascii", "replace") if end > 0 else ""
    if name == LEGACY_DIGEST:
        _refuse_legacy(allow_legacy, "asks for HMAC-MD5")
    elif name not in ACCEPTED_DIGESTS:
        raise AuthenticationError(
            f"the message names none of the digests {_names(ACCEPTED_DIGESTS)}: {_shown(message)}"
        )
    return name, message[end + 1 :]


def _refuse_legacy(allowed: bool, what: str) -> None:
    if not allowed:
        raise AuthenticationError(f"the other side {what}; that is not safe enough to be accepted unasked. {TO_ALLOW}")


def _mac(authkey: bytes, message: bytes, digest: str) -> bytes:
    global _hmac
    if _hmac is None:
        import hmac  # noqa: PLC0415 - most programs never authenticate

        _hmac = hmac
    try:
        mac: bytes = _hmac.digest(authkey, message, digest)
    except ValueError as error:
        raise AuthenticationError(f"this interpreter cannot compute HMAC-{digest.upper()}: {error}") from None
    return mac


_hmac: Any = None  # the module, when somebody authenticates


def _names(digests: frozenset[str]) -> str:
    return ", ".join(sorted(digests))


def _shown(message: bytes) -> str:
    return repr(message[:40]) + (" …" if len(message) > 40 else "")  # noqa: PLR2004 - enough to tell what it is


# --- over any connection, waiting ---------------------------------------------------------------------------------------


def deliver_challenge(
    connection: Any, authkey: bytes, digest_name: str = "sha256", *, allow_legacy: bool = False
) -> None:
    """Challenge the other side of a connection to prove that it has the key; it calls `answer_challenge`.

    Waits for the answer as long as it takes, for the other side may be busy; `Listener` and `Client` are stricter.

    Args:
        connection: anything with ``send_bytes`` and ``recv_bytes``.
        authkey: the key.
        digest_name: what to compute the HMAC with.
        allow_legacy: whether an answer with HMAC-MD5, all that CPython 3.11 and older speak, is good enough.

    Raises:
        AuthenticationError: if it has not; the other side has been told.
    """
    _converse(connection, authkey, allow_legacy, lambda key, **options: deliver(key, digest_name, **options))


def answer_challenge(connection: Any, authkey: bytes, *, allow_legacy: bool = False) -> None:
    """Answer `deliver_challenge` of the other side of a connection.

    Args:
        connection: anything with ``send_bytes`` and ``recv_bytes``.
        authkey: the key.
        allow_legacy: whether to answer a challenge of CPython 3.11 or older, which is with HMAC-MD5.

    Raises:
        AuthenticationError: if the other side does not accept the answer, or does not keep to the protocol.
    """
    _converse(connection, authkey, allow_legacy, answer)


def _converse(connection: Any, authkey: bytes, allow_legacy: bool, begin: Callable[..., Conversation]) -> None:
    if not isinstance(authkey, bytes):
        raise ValueError(f"Authkey must be bytes, not {type(authkey)!s}")  # noqa: TRY004 - as the standard library has it
    conversation = begin(authkey, allow_legacy=legacy_allowed(allow_legacy))
    try:
        said = next(conversation)
        while True:
            if not said:
                try:
                    heard = connection.recv_bytes(LONGEST_MESSAGE)
                except Exception as error:  # noqa: BLE001 - thrown on
                    said = conversation.throw(error)
                else:
                    said = conversation.send(heard)
            else:
                connection.send_bytes(said)
                said = next(conversation)
    except StopIteration:
        pass
