"""A server and a client who know an address and a key, and nothing else of each other: objects, bytes, and bytes into an array."""

import array
import multiprocessing
from multiprocessing.connection import AuthenticationError, Client, Listener

KEY = b"the secret of both"


def call(address):
    """The client: what it is told, in the three ways to be told."""
    with Client(address, authkey=KEY) as connection:
        print("an object:", connection.recv())
        print("bytes:", connection.recv_bytes())
        numbers = array.array("i", [0] * 5)
        size = connection.recv_bytes_into(numbers)
        print("into an array:", size // numbers.itemsize, "numbers:", numbers.tolist(), flush=True)


def knock(address):
    """Somebody who does not know the key."""
    try:
        Client(address, authkey=b"a guess")
    except AuthenticationError:
        print("turned away", flush=True)


def main():
    """The server: one good client, and one bad."""
    with Listener(("localhost", 0), authkey=KEY) as listener:
        client = multiprocessing.Process(target=call, args=(listener.address,))
        client.start()
        with listener.accept() as connection:
            connection.send([2.25, None, "junk", float])
            connection.send_bytes(b"hello")
            connection.send_bytes(array.array("i", [42, 1729]))
            client.join()
        print("accepted from:", listener.last_accepted[0])

        stranger = multiprocessing.Process(target=knock, args=(listener.address,))
        stranger.start()
        try:
            listener.accept()
        except AuthenticationError:
            stranger.join()
            print("somebody did not know the key")


if __name__ == "__main__":
    main()
