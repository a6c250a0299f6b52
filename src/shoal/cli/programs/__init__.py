"""The programs that ``shoal demo`` runs. Each is an ordinary program which says ``import multiprocessing`` and knows nothing of shoal."""
