"""Benchmarks: shoal beside the standard library's ``multiprocessing``, and beside its rivals on request.

``python -m benchmarks`` from the project's root runs them all; ``README.md`` says how to read what it prints.

    row          what a row is, and the list of all of them
    backend      what is measured: the standard library, shoal, the rivals
    pace         how long to measure, and the warm-up
    crew         child processes with a starting gun that belongs to neither side
    queues, pipes, sockets, pools, locks, processes, lifetimes, named_memory      the rows, by subject
    measure      one measurement, in an interpreter of its own
    runner       rounds of measurements, in turn; ratios
    machine      what the figures were measured on
    report       the table, and the JSON
"""
