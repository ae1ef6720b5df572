"""What to train next: lists, TPE and confirmation behind ask() and tell(). Imports neither torch nor ray."""
