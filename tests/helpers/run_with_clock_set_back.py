"""`python -m helpers.run_with_clock_set_back FILE ...` is flexres_tune.run; once FILE exists, its clock is a day back."""

import datetime
import os
import sys
import time

real_time, real_datetime = time.time, datetime.datetime
flag = sys.argv.pop(1)


def set_back_time() -> float:
    return real_time() - 86400 * os.path.exists(flag)


class IsDatetime(type):
    def __instancecheck__(cls, value) -> bool:
        return isinstance(value, real_datetime)


class SetBackDatetime(real_datetime, metaclass=IsDatetime):
    @classmethod
    def now(cls, zone=None):
        return real_datetime.fromtimestamp(set_back_time(), zone)


if __name__ == "__main__":
    time.time, datetime.datetime = set_back_time, SetBackDatetime  # before the package imports them
    from flexres_tune.run.__main__ import main

    main()
