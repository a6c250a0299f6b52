"""The one door to the standard library's ``multiprocessing``.

Under ``shoal run`` the name ``multiprocessing`` means shoal. This module is imported before that alias is put in place, so what
it holds are the standard modules themselves: shoal's classes derive from them (``isinstance`` against the standard ``BaseProcess`` and
``BaseContext`` holds), and shoal raises their exceptions.
"""

from __future__ import annotations

import multiprocessing as package
from multiprocessing import connection, context, process, reduction, util

__all__ = ["connection", "context", "package", "process", "reduction", "util"]
