"""The fork server's own side: what runs in it (`server`), what it imports beforehand (`preload`), and how one talks to it (`protocol`).

`shoal.forkserver` is the side of its clients.
"""
