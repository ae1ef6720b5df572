"""Attacks on `submit --fetch`: archives that a head, or somebody on it, has made; and replies of a head."""

from __future__ import annotations

import contextlib
import io
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

from adversary.attack import CANARY, Call, Place, command
from adversary.tables import change_bytes
from flexres_tune.display.terminal import escape_for_console, make_console
from flexres_tune.results.paths import SweepPaths
from flexres_tune.submit.client import RunClient
from flexres_tune.submit.cluster_file import ClusterError, read_cluster_file
from flexres_tune.submit.fetch import unpack_results
from flexres_tune.submit.head import LINE_MARK, SKIPPED_MARK

ORIGIN = "ours:/mnt/results"
MAX_WRITTEN_BYTES = 64 << 20  # of an archive of kilobytes
NAMES = (
    *("plan.json", "report.html", "trials/part-00000001-00000001.parquet", "driver.lock", ".fetched.json"),
    *(
        "../escaped",
        "../../escaped",
        "/tmp/escaped_adversary",
        "a/../../escaped",
        "trials/../../../escaped",
        "./plan.json",
    ),
    *("trials", "plan.json/x", "", ".", "..", "/", "\\..\\x", "a" * 300, "b/" * 200 + "c", "\x1b[2J", "\udcff", "é/\n"),
    *("checkpoints/x.pt", "logs/x", "beta/plan.json", "trials/.part.tmp", "C:\\x", "con", "plan.json ", CANARY),
)
TYPES = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE)


def fetch_archives(chance: random.Random, place: Place) -> Iterator[Call]:
    """Archives with hostile members, or with changed bytes, unpacked into a results folder."""
    root = place.folder / "fetched"
    archive = place.folder / "hostile.tar"
    good = place.folder / "good.tar"
    if chance.random() < 0.5:
        unpack_results(good, root, "alpha", ORIGIN)
    for _ in range(4):
        content = change_bytes(chance, good.read_bytes()) if chance.random() < 0.4 else _make_archive(chance)
        archive.write_bytes(content)
        yield Call("fetch a hostile archive", lambda: _unpack(archive, root))
    yield command("query", "status", "--results", root)


def _make_archive(chance: random.Random) -> bytes:
    buffer = io.BytesIO()
    mode = chance.choice(["w"] * 8 + ["w:gz", "w:bz2", "w:xz"])
    is_bomb = mode == "w:gz" and chance.random() < 0.5  # kilobytes that unpack to 100 MB
    with tarfile.open(fileobj=buffer, mode=mode, format=chance.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])) as tar:
        for _ in range(chance.choice([0, 1, 2, 5, 50])):
            member = tarfile.TarInfo(chance.choice(NAMES))
            content = b"x" * chance.choice([0, 1, 1_000])
            if chance.random() < 0.3:
                member.type = chance.choice(TYPES)
                member.linkname = chance.choice(["/etc/passwd", "../../x", "plan.json", "", "."])
            if tar.format == tarfile.PAX_FORMAT and chance.random() < 0.3:
                member.pax_headers = _pax_headers(chance)
            if is_bomb:
                content, is_bomb = bytes(100 << 20), False
            member.size = len(content)
            member.mode = chance.choice([0o644, 0o000, 0o7777])
            member.mtime = chance.choice([0, 2**33, -1])
            try:
                tar.addfile(member, io.BytesIO(content))
            except (ValueError, UnicodeError, OverflowError):  # no archive can hold this
                continue
    data = bytearray(buffer.getvalue())
    if chance.random() < 0.2:
        del data[chance.randrange(len(data)) :]
    return bytes(data)


def _pax_headers(chance: random.Random) -> dict[str, str]:
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "plan.json"}
    return chance.choice(
        [
            {"size": chance.choice(["99999999999", "-1", "x"])},
            {"path": chance.choice(["../escaped", "/tmp/escaped_adversary", "a" * 5_000])},
            {"GNU.sparse.size": str(1 << 40), "GNU.sparse.numblocks": "0", "GNU.sparse.map": ""},
            sparse | {"GNU.sparse.realsize": str(1 << 40)},
            {"linkpath": "/etc/passwd"},
            {"mtime": "1e999"},
        ]
    )


def _unpack(archive: Path, root: Path) -> None:
    """Unpack; a refused archive changes nothing, and none writes much."""
    before = _contents(root)
    try:
        unpack_results(archive, root, "alpha", ORIGIN)
    except Exception:
        assert _contents(root) == before, "a refused archive has changed the folder"
        raise
    finally:
        written = sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        assert written < MAX_WRITTEN_BYTES, f"{archive.stat().st_size:,} bytes became {written:,}"
        assert not any(path.is_symlink() for path in root.rglob("*")), "a link was made"


def _contents(root: Path) -> dict[str, bytes]:
    lock = SweepPaths(root, "alpha").lock  # is written by whoever holds it
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file() and path != lock}


class _Head:
    """A head that answers with hostile lines; it has the methods of HeadNode."""

    def __init__(self, chance: random.Random, place: Place):
        self.cluster = read_cluster_file(place.folder / "cluster.yaml")
        self._chance, self._place = chance, place

    def run(self, script, on_line):
        for _ in range(self._chance.choice([0, 1, 3, 30])):
            on_line(_line(self._chance))
        return self._chance.choice([0, 0, 1, 2, 127, 255, None])

    def get(self, source, target):
        Path(target).write_bytes(_make_archive(self._chance))


def _line(chance: random.Random) -> str:
    text = chance.choice(
        ["epoch 1", "\x1b[2J\x1b]0;t\x07", "\u202e", "[red]x[/red]", "a" * 100_000, "", "\0", "\r\r", NAMES[9]]
    )
    return chance.choice(
        [
            text,
            LINE_MARK + text + LINE_MARK,
            LINE_MARK + text,
            SKIPPED_MARK + chance.choice(["5", "-1", "9" * 5_000, "x", "²"]),
            LINE_MARK,
        ]
    )


def reply_as_head(chance: random.Random, place: Place) -> Iterator[Call]:
    """`submit` with a head whose replies are hostile."""

    def show(line: str) -> None:
        make_console().print(escape_for_console(line), soft_wrap=True)

    for _ in range(4):
        client = RunClient(_Head(chance, place), "alpha", show, reconnect_pause_s=0)
        yield Call("follow", lambda client=client: client.attach(None))
        yield Call("stop", lambda client=client: client.stop())
        yield Call("fetch", lambda client=client: _fetch(client, place))


def _fetch(client: RunClient, place: Place) -> None:
    with contextlib.suppress(ClusterError):  # it quotes what the head has printed
        client.fetch("x.zip", place.folder / "fetched", False)
