"""`python -m tests`: the one check. Format, lint, strict types, import layers, then every test.

Each process has one thread: the tests start many that share the cores. Arguments go to pytest:
`python -m tests -k reservoir` checks everything but runs those tests only.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))


def main() -> int:
    """Run every check, say which failed, return how many."""
    checks = {
        "format": [SCRIPTS / "ruff", "format", "--check", "."],
        "lint": [SCRIPTS / "ruff", "check", "."],
        "types": [SCRIPTS / "mypy"],
        "layers": [SCRIPTS / "lint-imports"],
        "tests": [sys.executable, "-m", "pytest", *sys.argv[1:]],
    }
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    failed = []
    for name, command in checks.items():
        print(f"== {name}", flush=True)
        if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
            failed.append(name)
    print(f"== {'failed: ' + ', '.join(failed) if failed else 'all checks passed'}", flush=True)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
