"""`python -m helpers.run_with_clock_set_back FILE ...`: flexres_tune.run, with a clock a day behind once FILE exists."""

import datetime
import os
import sys
import time

real_time = time.time
flag = sys.argv.pop(1)


def set_back_time() -> float:
    return real_time() - 86400 * os.path.exists(flag)


class SetBackDatetime(datetime.datetime):
    @classmethod
    def now(cls, zone=None):
        return datetime.datetime.fromtimestamp(set_back_time(), zone)


if __name__ == "__main__":
    from flexres_tune.run.__main__ import main
    from flexres_tune.sweep import journal

    time.time = set_back_time
    journal.datetime = SetBackDatetime  # not in the module datetime: pandas' C code crashes with another class there
    main()
