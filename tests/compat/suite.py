"""The interpreter's own tests of multiprocessing, run in this interpreter: what ``python -m tests.compat`` starts, one process after another.

Nothing of those tests is copied: they are imported from where the interpreter has them. Run under ``shoal run``, so that the tests, and the children that they
start, find shoal under the name ``multiprocessing``; the children of ``spawn`` and ``forkserver`` import this file as their main module, hence the test classes
are made when it is imported, for the start method that the first argument names.

The second argument is a file with the tests to run, one identifier (``Class.test``) a line; without it the identifiers are listed. Reports are lines of JSON on
the pipe whose descriptor ``COMPAT_REPORT`` names. Whoever started it watches over the time: a test that was begun and not ended is the one that hung, or killed the process.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
import unittest
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

METHODS = ("fork", "spawn", "forkserver")
EXECUTORS = "concurrent.futures"
MISSING = 77  # the exit status where the interpreter has no such tests

work = sys.argv[1] if len(sys.argv) > 1 else ""
try:
    if work in METHODS:
        from test._test_multiprocessing import install_tests_in_module_dict

        install_tests_in_module_dict(globals(), work)
    elif work == EXECUTORS and __name__ == "__main__":
        import test.test_concurrent_futures
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "test":
        raise
    sys.exit(MISSING)


class Reporter(unittest.TestResult):
    """Says what happens as it happens."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._to = descriptor
        self._begun = 0.0
        self._worst: tuple[str, str] = ("passed", "")
        self._warned: list[str] = []  # since somebody last looked
        self._last = "(before the first test)"

    def tell(self, **what: object) -> None:
        os.write(self._to, json.dumps(what).encode() + b"\n")

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        super().startTest(test)
        self.look_for_leftovers()
        self._last = identifier(test)
        self._worst = ("passed", "")
        self._begun = time.monotonic()
        self.tell(event="begun", test=identifier(test))

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().stopTest(test)
        outcome, text = self._worst
        seconds = round(time.monotonic() - self._begun, 3)
        self.tell(event="ended", test=identifier(test), outcome=outcome, text=text, seconds=seconds)

    def warned(self, text: str) -> None:
        """Note what the tests' own books warn of."""
        self._warned.append(text)

    def look_for_leftovers(self) -> None:
        """Tell what the last test, or its class when it was torn down, has left over, if the tests' own books say so."""
        support = sys.modules["test.support"]
        if support.environment_altered:
            self.tell(event="left", test=self._last, text="\n".join(self._warned) or "something, and no word of what")
        support.environment_altered = False
        self._warned.clear()

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        if self._worst[0] == "passed":
            self._worst = ("skipped", reason)
        if not isinstance(test, unittest.TestCase) or not hasattr(test, "_testMethodName"):
            self.tell(event="ended", test=identifier(test), outcome="skipped", text=reason, seconds=0)

    def addError(self, test: unittest.TestCase, error: object) -> None:  # noqa: N802
        self._failed(test, error)

    def addFailure(self, test: unittest.TestCase, error: object) -> None:  # noqa: N802
        self._failed(test, error)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, error: object) -> None:  # noqa: N802, ARG002
        if error is not None:
            self._failed(test, error)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        self._worst = ("failed", f"{test} was expected to fail")

    def _failed(self, test: unittest.TestCase, error: object) -> None:
        text = self._exc_info_to_string(error, test)
        if isinstance(test, unittest.TestCase):
            self._worst = ("failed", self._worst[1] + text)
        else:  # setUpClass, tearDownModule and the like
            self.tell(event="ended", test=identifier(test), outcome="failed", text=text, seconds=0)


def identifier(test: object) -> str:
    """``Class.test``; for the tests of executors, with the module before it."""
    name = test.id() if hasattr(test, "id") else str(test)
    return name.removeprefix("__main__.").removeprefix("test.test_concurrent_futures.")


def all_tests(tests: object) -> list[unittest.TestCase]:
    return [one for test in tests for one in all_tests(test)] if isinstance(tests, unittest.TestSuite) else [tests]


def load() -> list[unittest.TestCase]:
    loader = unittest.TestLoader()
    if work == EXECUTORS:
        place = Path(test.test_concurrent_futures.__file__).parent
        names = [f"test.test_concurrent_futures.{path.stem}" for path in sorted(place.glob("test_*.py"))]
        found = loader.loadTestsFromNames(names)
    else:
        found = loader.loadTestsFromModule(sys.modules["__main__"])
    return all_tests(found)


def warn_and_note(warn: Callable[[str], None], report: Reporter) -> Callable[[str], None]:
    """Have what the tests warn of noted as well as printed."""

    def warning(text: str) -> None:
        report.warned(text)
        warn(text)

    warning.orig_stderr = warn.orig_stderr  # the tests' package looks for it there
    return warning


def main() -> None:
    """Run or list."""
    faulthandler.enable()
    from test import support  # noqa: PLC0415 - the test package may be missing
    from test.support import script_helper  # noqa: PLC0415

    # Tests that start interpreters start them isolated (-I) unless the environment is needed. It is: the alias travels in it.
    setattr(script_helper, "__cached_interp_requires_environment", True)
    pipe = int(os.environ["COMPAT_REPORT"])
    os.set_inheritable(pipe, False)
    report = Reporter(pipe)
    support.print_warning = warn_and_note(support.print_warning, report)
    tests = load()
    if len(sys.argv) < 3:
        for one in tests:
            report.tell(event="exists", test=identifier(one))
        return
    wanted = dict.fromkeys(Path(sys.argv[2]).read_text(encoding="utf-8").splitlines())
    by_name = {identifier(one): one for one in tests}
    unittest.TestSuite(by_name[name] for name in by_name if name in wanted)(report)
    report.look_for_leftovers()
    report.tell(event="done")


if __name__ == "__main__":
    main()
