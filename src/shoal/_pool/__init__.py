"""The parts of :mod:`shoal.pool`, one subject a file.

From the bottom up: ``waiting``, ``failures`` (how an exception travels), ``functions`` (how a callable travels), ``chunking`` (how many items
a task takes), ``ledger`` (which task is where: pure, no processes), ``restarts`` (how often a worker may die before it was ready: pure),
``transport`` (the seam: the native task table, threads, or queues that a subclass brought), ``worker`` (the loop in a worker), ``crew`` (the worker
processes), ``leadership`` (which thread receives outcomes), ``feeding`` (where inputs come from), ``collector`` and ``undertaker`` (what is done when
no thread waits, and when a worker dies), ``results`` and ``iterators`` (what a caller holds), ``calls`` (what it calls).
"""
