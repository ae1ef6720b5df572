"""The driver's logic around a search: history, journal, reuse, worker, checkpoints, back-pressure, signals. Imports neither torch nor ray."""
