"""A trained model leaves the results folder: which one, as which files, and checked how."""
