"""The adapters to Ray Tune: it places, stops and restarts the trials that a search has chosen."""
