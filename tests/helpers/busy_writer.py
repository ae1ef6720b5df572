"""Writes a sweep's tables in a loop until it is killed, with replaced rows, merges and compactions: `busy_writer ROOT`."""

import random
import sys

from flexres_tune.results import table_writer
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter
from helpers.factories import make_config, make_epoch, make_trial

NUM_TRIALS = 40


def main(root: str) -> None:
    table_writer.FANOUT = 4  # merges at every few flushes
    chance = random.Random()
    with SweepWriter(SweepPaths(root, "busy")) as writer:
        for attempt in range(1, 255):
            for number in range(NUM_TRIALS):
                config = make_config(seed=number)
                writer.add_trial(make_trial(config, "interrupted", attempt=attempt, sweep="busy"), config)
                for epoch in range(1, 6):
                    writer.add_epoch(make_epoch(config.trial_id, epoch, attempt=attempt, sweep="busy"))
                    if chance.random() < 0.3:
                        writer.flush()
                writer.add_trial(make_trial(config, attempt=attempt, sweep="busy"), config)
                if chance.random() < 0.02:
                    writer.compact()
            print(attempt, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
