"""The parts of `shoal.connection`: what a connection checks and how it frames its messages, authentication, listeners and clients, TLS, waiting.

Each part has one subject and knows nothing of those that are built on it: ``messages`` < ``stream`` < ``pipe``; ``authentication``; ``addresses``; ``tls`` on
``stream``; ``admission`` on ``authentication``; ``listener`` and ``client`` on all of these.
"""
