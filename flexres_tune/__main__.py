"""`python -m flexres_tune NAME ...` is `python -m flexres_tune.NAME ...`."""

from flexres_tune.cli import dispatch

if __name__ == "__main__":
    dispatch()
