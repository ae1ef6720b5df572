"""The driver's logic around a search, and one trial in a worker process. Imports neither torch nor ray."""
