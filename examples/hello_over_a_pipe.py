"""A pipe has two ends, and what is sent into one comes out of the other: messages are any objects."""

import multiprocessing


def child(connection):
    """Say hello, listen, and hang up."""
    connection.send(["hello", 42, None])
    print(f"the child was told {connection.recv()!r}", flush=True)
    connection.close()


def main():
    """Hold one end, and give the other away."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=child, args=(theirs,))
    process.start()
    theirs.close()  # the child has it now: when the child has gone, nobody holds that end

    print(f"the parent was told {ours.recv()!r}", flush=True)
    ours.send({"how": "are you?"})
    try:
        ours.recv()
    except EOFError:
        print("the child has hung up")
    process.join()


if __name__ == "__main__":
    main()
