"""What to train next, in plain Python: searches, and the rules that stop a trial early. Imports neither ray nor torch."""
