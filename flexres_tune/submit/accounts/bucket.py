"""The address of a cluster's results: `python -m flexres_tune.submit.accounts.bucket ADDRESS`, on the head of an AWS cluster.

It creates the bucket if it is missing. What it prints is the address with the number of the account filled in, which
`submit` uses, and which `ray down` shows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from flexres_tune.errors import FlexResError
from flexres_tune.submit.accounts.aws import (
    ACCOUNT_PLACE,
    account_number,
    bucket_name,
    connect,
    create_bucket,
    region_here,
)


def resolve_storage(storage: str) -> str:
    """The address of the results with the number of this machine's account. Other addresses are returned unchanged."""
    if ACCOUNT_PLACE not in storage:
        return storage
    return storage.replace(ACCOUNT_PLACE, account_number(connect(None)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Create the bucket and print the address; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bucket", allow_abbrev=False)
    parser.add_argument("storage", help="s3://NAME-{account}/FOLDER")
    options = parser.parse_args(arguments)
    try:
        session = connect(region_here())
        account = account_number(session)
        create_bucket(session, bucket_name(options.storage, account))
    except FlexResError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    print(options.storage.replace(ACCOUNT_PLACE, account))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
