"""The parts of managers: the server, the way to it, the proxies and the types they stand for. `shoal.managers` is the door."""
