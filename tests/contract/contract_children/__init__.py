"""What the contract tests run in other processes, importable by name and without pytest: a spawned child starts quickly."""
