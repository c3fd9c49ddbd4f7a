"""`python -m tests.chaos`: kill a learner many times, print what happened; exit code 1 if anything differs."""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.trial import Plan, Report, Trial
from tests.conftest import KafkaBroker


def main() -> int:
    """Run one trial."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--log", default="sqlite", help="sqlite, kafka (a broker of its own), or kafka://HOST:PORT")
    parser.add_argument("--labels", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--suspensions", type=int, default=0, help="learners put to sleep while another takes over")
    parser.add_argument("--broker-kills", type=int, default=0, help="of the broker; with --log kafka")
    parser.add_argument("--broker-stalls", type=int, default=0, help="SIGSTOPs of the broker; with --log kafka")
    parser.add_argument("--stall-s", type=float, default=60.0, help="how long a stalled broker sleeps, s")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--ragged", action="store_true", help="ticks take what is there, decided by the journal alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep the files")
    asked = parser.parse_args()
    if (asked.broker_kills or asked.broker_stalls) and asked.log != "kafka":
        parser.error("--broker-kills and --broker-stalls need --log kafka: they harm only a broker of its own")
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        report = _run(asked, folder)
    finally:
        if asked.keep:
            print(f"files: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(report.named()) if asked.json else _words(report))
    return int(bool(report.mismatches))


def _run(asked: argparse.Namespace, folder: Path) -> Report:
    broker = KafkaBroker(folder / "broker") if asked.log == "kafka" else None
    if broker is not None:
        broker.start()
    plan = Plan(
        url=broker.url if broker else "" if asked.log == "sqlite" else asked.log,
        labels=asked.labels,
        kills=asked.kills,
        suspensions=asked.suspensions,
        partitions=asked.partitions,
        ragged=asked.ragged,
        seed=asked.seed,
    )

    def break_broker() -> None:
        assert broker is not None
        broker.kill()
        broker.start()

    def stall_broker() -> None:
        assert broker is not None
        broker.stall(asked.stall_s)

    trial = Trial(plan, folder, {"break": break_broker, "stall": stall_broker})
    try:
        return trial.run(broker_kills=asked.broker_kills, broker_stalls=asked.broker_stalls)
    finally:
        if broker is not None:
            broker.kill()


def _words(report: Report) -> str:
    figures = report.named()
    return "\n".join(f"{name:<24} {value}" for name, value in figures.items())


if __name__ == "__main__":
    sys.exit(main())
