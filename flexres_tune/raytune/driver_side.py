"""DriverSide: an object that stays in the driver's memory, whatever Ray pickles or copies around it."""

from __future__ import annotations


class DriverSide:
    """Base of what we hand to Tuner: it holds open files and locks, and is read back by nobody.

    Tuner pickles its searcher, scheduler, callbacks and stopper into tuner.pkl for Tuner.restore, which is not used
    here: runs go on from the tables. So a pickle holds an empty DriverSide, and a deep copy is the object itself.
    """

    def __reduce__(self) -> tuple:
        return DriverSide, ()

    def __deepcopy__(self, memo: dict) -> DriverSide:
        return self
