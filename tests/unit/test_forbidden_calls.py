"""The syntax tree of the package: nothing that turns bytes into code, but for exceptions that are named here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "lmlp_stream"

MODULES = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "copyreg", "code", "codeop",
    "runpy", "imp", "yaml", "pty", "subprocess", "importlib", "multiprocessing", "xmlrpc",
}  # fmt: skip
"""Modules that unpickle, run or load what they are given."""

CALLS = {"eval", "exec", "compile", "__import__", "breakpoint", "input"}
METHODS = {
    "torch.load", "torch.hub", "torch.jit.load", "torch.package", "torch.classes.load_library",
    "torch.ops.load_library",
    "numpy.load", "np.load", "numpy.fromregex", "os.system", "os.popen", "os.execv", "os.execvp", "os.spawnv",
    "os.posix_spawn", "ctypes.CDLL", "json.JSONDecoder", "sqlite3.enable_callback_tracebacks",
}  # fmt: skip
KEYWORDS = {"allow_pickle", "weights_only", "shell"}

ALLOWED = {
    ("cli/demo/children.py", "subprocess"): "starts our own commands, with arguments from the command line",
    ("cli/bench/exactly_once.py", "subprocess"): "starts our own learner, and measures how soon it learns",
    ("farm/calculators.py", "subprocess"): "names the exceptions of a calculator that is a program",
    ("farm/calculators.py", "importlib"): "loads the calculator that the configuration file names",
    ("cli/demo/children.py", "ctypes.CDLL"): "asks Linux to end the children with their parent",
    ("potential/device.py", "ctypes.CDLL"): "asks the C library to keep freed memory",
    ("potential/openblas.py", "ctypes.CDLL"): "loads OpenBLAS from an installed package",
    ("cli/bench/ingest.py", "multiprocessing"): "hands its own work to its own children",
    ("cli/bench/stream/bench.py", "multiprocessing"): "hands its own work to its own children",
    ("cli/demo/settings.py", "importlib.util"): "asks whether a package is installed",
}
"""What is let through, and why: none of these sees a byte of the log or the store."""

HARMLESS = {"importlib.metadata", "importlib.resources"}


def findings(tree: ast.AST) -> Iterator[str]:
    """What a syntax tree imports and calls that is forbidden."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _forbidden(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and _forbidden(node.module):
            yield node.module
        elif isinstance(node, ast.Name) and node.id in CALLS:
            yield node.id
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in METHODS:
            yield ast.unparse(node)
        elif isinstance(node, ast.keyword) and node.arg in KEYWORDS:
            yield f"{node.arg}="
        elif isinstance(node, ast.Attribute) and node.attr in ("__globals__", "__subclasses__", "__builtins__"):
            yield node.attr


def _forbidden(module: str) -> bool:
    return module.partition(".")[0] in MODULES and module not in HARMLESS


def test_nothing_in_the_package_turns_bytes_into_code() -> None:
    found = {
        (str(path.relative_to(PACKAGE)), finding)
        for path in PACKAGE.rglob("*.py")
        for finding in findings(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found - set(ALLOWED) == set()


def test_every_exception_is_still_needed() -> None:
    for place, what in ALLOWED:
        assert what in set(findings(ast.parse((PACKAGE / place).read_text(encoding="utf-8")))), (place, what)


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "eval('1')",
        "f = exec",
        "__import__('os')",
        "import numpy as np\nnp.load('x')",
        "g(allow_pickle=True)",
        "import importlib.util",
        "os.system('x')",
    ],
)
def test_the_search_finds_what_is_forbidden(code: str) -> None:
    assert list(findings(ast.parse(code)))
