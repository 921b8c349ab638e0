"""Storage of logs: one file per storage, see ``base`` for the interface."""
