"""What a forked child finds in ``threading``: the same as without shoal, whatever threads its parent has or had.

Each case is a program of its own, run with the standard library and with shoal. What it prints must be the same.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import pytest

from shoal._runtime import fork_hook

SECONDS = 40

PROGRAM = """
    import _thread, importlib, os, sys, threading, warnings
    warnings.simplefilter("ignore")
    mp = importlib.import_module(sys.argv[1]).get_context("fork")

    def report(*more):
        main = threading.main_thread()
        print(len(threading.enumerate()), main.name, main.is_alive(), main.ident == threading.get_ident(), type(main).__name__)
        print(threading.current_thread() is main, len(getattr(threading, "_shutdown_locks", ())), threading._active_limbo_lock, *more)
        later = threading.Thread(target=print, args=("a thread of the child's",))
        later.start()
        later.join()
        print(threading.active_count(), flush=True)

    def in_a_child(work=report, *args):
        process = mp.Process(target=work, args=args)
        process.start()
        process.join()
        print(process.exitcode, flush=True)

    mp.Process(target=print, args=("the first",)).start()
    [child.join() for child in mp.active_children()]
"""

CASES = {
    "alone": "in_a_child()",
    "twice": "in_a_child(in_a_child)",
    "a plain fork": """
        if os.fork() == 0:
            report()
            os._exit(0)
        os.wait()
    """,
    "beside a thread": """
        stop = threading.Event()
        other = threading.Thread(target=stop.wait, name="other")
        other.start()
        in_a_child(lambda: (report(other.is_alive()), other.join()))
        stop.set()
        other.join()
        in_a_child(lambda: report(other.is_alive()))
        del other
        in_a_child()
    """,
    "with one that has not begun": """
        later = threading.Thread(target=print, args=("begun in the child",))
        def begin():
            report(later.is_alive())
            try:
                later.start()
                later.join()
            except RuntimeError as error:
                print(error, flush=True)
        in_a_child(begin)
    """,
    "not from the main thread": """
        other = threading.Thread(target=in_a_child, name="other")
        other.start()
        other.join()
        other = threading.Thread(target=in_a_child, args=(in_a_child,), name="other")
        other.start()
        other.join()
    """,
    "beside one that threading does not know": """
        held, done = _thread.allocate_lock(), _thread.allocate_lock()
        held.acquire()
        done.acquire()
        def hold():
            with threading._active_limbo_lock:
                held.release()
                done.acquire()
        _thread.start_new_thread(hold, ())
        held.acquire()
        if os.fork() == 0:
            report()
            os._exit(0)
        os.wait()
        done.release()
    """,
    "a hook of the program's": """
        os.register_at_fork(after_in_child=lambda: print(threading.active_count(), threading._active_limbo_lock))
        in_a_child()
    """,
}


def said(module: str, case: str) -> list[str]:
    """Run a case with this module; what it prints, without addresses."""
    program = textwrap.dedent(PROGRAM) + textwrap.dedent(case)
    done = subprocess.run(
        [sys.executable, "-c", program, module], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition(" at 0x")[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_child_finds_what_it_would_find_without_shoal(case: str):
    ours = said("shoal", case)
    assert len(ours) > 1
    assert ours == said("multiprocessing", case)


def test_a_hook_that_is_not_the_interpreters_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    def mine() -> None: ...

    code = mine.__code__
    monkeypatch.setattr("threading._after_fork", mine)
    fork_hook.install()
    assert mine.__code__ is code
    assert mine.__defaults__ is None


def test_a_version_that_was_not_looked_at_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    def hook() -> None: ...

    code = hook.__code__.replace(co_filename=threading.__file__)
    hook.__code__ = code
    monkeypatch.setattr("threading._after_fork", hook)
    monkeypatch.setattr(fork_hook, "FIRST_UNKNOWN", sys.version_info[:2])
    fork_hook.install()
    assert hook.__code__ is code
    monkeypatch.setattr(fork_hook, "FIRST_UNKNOWN", (sys.version_info[0], sys.version_info[1] + 1))
    fork_hook.install()
    assert hook.__code__ is not code
