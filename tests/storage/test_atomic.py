"""Files are written beside their place, under a name that nobody reads."""

import os
import platform

from flexres_tune.storage import temporary_path


def test_aside_is_hidden_beside_the_file_and_of_this_process_alone(tmp_path):
    aside = temporary_path(tmp_path / "a.parquet")
    assert aside.parent == tmp_path and aside.name == f".a.parquet.{platform.node()}.{os.getpid()}.tmp"
