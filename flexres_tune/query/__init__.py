"""The command that asks the tables."""
