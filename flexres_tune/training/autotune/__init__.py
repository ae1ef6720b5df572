"""Picks how a trial uses its device by measuring a few training steps."""
