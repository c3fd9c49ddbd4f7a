"""Decodes bytes from outside under an audit hook: `python -m tests.fuzz.audited FOLDER` ends with 1 if there was one.

FOLDER holds `snapshots/ID/` and `checkpoints/`. Everything is decoded once before the hook is set: what the first call
imports is our own code, whatever the bytes are. After that, nothing may import, compile, run, unpickle or start
anything.
"""

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

from lmlp_stream.broker.log import Partition
from lmlp_stream.broker.sqlite import SqliteLog
from lmlp_stream.errors import LmlpStreamError
from lmlp_stream.simulate.follower import Follower
from lmlp_stream.store.checkpoint import Checkpoints
from lmlp_stream.store.snapshot import load
from lmlp_stream.wire.announcement import SnapshotManifest
from tests.fuzz.decoders import decoders
from tests.fuzz.mutations import mutated

FORBIDDEN = (
    "pickle.find_class", "exec", "compile", "import", "marshal.load", "marshal.loads", "code.__new__",
    "function.__new__", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
    "subprocess.Popen", "ctypes.dlopen", "ctypes.dlsym", "socket.connect", "sqlite3.load_extension", "webbrowser.open",
)  # fmt: skip
N_RECORDS = 1500
N_BUNDLES = 60
PICKLES = (b"\x80\x04\x95", b"cos\nsystem\n(S'true'\ntR.", b"PK\x03\x04", b"\x93NUMPY\x01\x00v\x00", b"")


def records(n_records: int, seed: int) -> None:
    """Every decoder over every one of its messages, and over mutated ones."""
    for name, decoder in decoders().items():
        for value in decoder.seeds:
            decoder.judge(value)
        random = Random(f"{seed}/{name}")
        for _ in range(n_records):
            decoder.judge(mutated(random, decoder.seeds, resign=decoder.resign))


def stored(folder: Path, n_mutations: int, read: Callable[[], object]) -> int:
    """How often `read` refused the files of a folder while they were overwritten, cut and replaced, one by one."""
    random = Random(folder.name)
    n_refused = 0
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for number in range(n_mutations):
        path = files[number % len(files)]
        content = path.read_bytes()
        path.write_bytes(
            random.choice(PICKLES) + content if number % 3 == 0 else mutated(random, (content,), resign=False)
        )
        try:
            read()
        except LmlpStreamError:
            n_refused += 1
        finally:
            path.write_bytes(content)
    return n_refused


def announced(folder: Path, manifest: SnapshotManifest) -> None:
    """A follower over a log with announcements, good and bad."""
    log = SqliteLog(folder / "log.db")
    follower = Follower(log, "snapshots")
    assert follower.latest() == manifest
    follower.load(manifest)
    follower.close()
    assert log.bounds(Partition("snapshots", 0)).end > 0
    log.close()


def everything(folder: Path, n_records: int, n_mutations: int) -> None:
    """Whatever bytes from outside can reach."""
    records(n_records, seed=n_mutations)
    (snapshot,) = (folder / "snapshots").iterdir()
    manifest, _ = load(snapshot)
    announced(folder, manifest)
    assert stored(snapshot, n_mutations, lambda: load(snapshot)) > n_mutations // 2
    checkpoints = Checkpoints(folder / "checkpoints", keep=2)
    assert checkpoints.restore() is not None
    stored(folder / "checkpoints", n_mutations, checkpoints.restore)


def main() -> int:
    """Decode everything once, then again under the hook."""
    folder = Path(sys.argv[1])
    everything(folder, n_records=100, n_mutations=12)
    seen: list[str] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event.startswith(FORBIDDEN):
            seen.append(f"{event} {arguments!r:.200}")

    watching = True
    sys.addaudithook(hook)
    if len(sys.argv) > 2:
        misbehave()
    else:
        everything(folder, N_RECORDS, N_BUNDLES)
    watching = False
    print("\n".join(seen[:20]))
    return 1 if seen else 0


def misbehave() -> None:
    """What the hook must see."""
    pickle.loads(b"cos\ngetpid\n.")
    eval("1")
    os.system("true")


if __name__ == "__main__":
    sys.exit(main())
