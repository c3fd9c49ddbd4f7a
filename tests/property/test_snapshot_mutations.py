"""Whatever happens to the bytes of a snapshot: it is refused, or it is the same potential."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmlp_stream.atoms.symmetry import RadialFunction, SymmetrySpec
from lmlp_stream.errors import DamagedStoreError
from lmlp_stream.potential.baseline import Baseline
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.store.declared import DeclaredTensors
from lmlp_stream.store.snapshot import Provenance, load, publish
from lmlp_stream.wire.announcement import SnapshotManifest

FILES = ("weights.safetensors", "manifest.json")
ENSEMBLE = DeclaredTensors.ensemble


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[SnapshotManifest, Path]:
    spec = SymmetrySpec(cutoff=3.0, radial=(RadialFunction(1.0, 0.0, "1"),), angular=())
    ensemble = Ensemble(
        spec, hidden=(2,), members=2, dtype=torch.float32, device=torch.device("cpu"), baseline=Baseline({1: -13.6})
    )
    ensemble.add_element(1, torch.rand(4, 1), torch.Generator().manual_seed(0))
    provenance = Provenance(
        name="hydrogen",
        step=1,
        labels_learned=1,
        journal_position=1,
        level_of_theory="HF",
        errors={"force_rmse_ev_per_angstrom": 0.1},
        calibration={},
        parent_id="",
        code_version="0.1.0",
        created_at="2026-01-01T00:00:00+00:00",
    )
    store = tmp_path_factory.mktemp("store")
    manifest = publish(ensemble, provenance, store)
    return manifest, store / manifest.id


@st.composite
def mutations(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """Places in files where some bytes are overwritten, or the file is cut for no bytes."""
    return draw(
        st.lists(
            st.tuples(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True), st.binary(max_size=4)),
            min_size=1,
            max_size=3,
        )
    )


@settings(max_examples=300, deadline=None)
@given(mutations=mutations())
def test_a_mutated_snapshot_is_refused_or_unchanged(
    bundle: tuple[SnapshotManifest, Path], mutations: list[tuple[str, float, bytes]]
) -> None:
    manifest, folder = bundle
    originals = {name: (folder / name).read_bytes() for name in FILES}
    state = load(folder)[1].state_dict()
    made = []
    try:
        for name, share, patch in mutations:
            content = (folder / name).read_bytes()
            place = int(share * len(content))
            after = content[place + len(patch) :] if patch else b""
            (folder / name).write_bytes(content[:place] + patch + after)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(DeclaredTensors, "ensemble", lambda *given: made.append(1) or ENSEMBLE(*given))
            said, ensemble = load(folder)
    except DamagedStoreError:
        assert made == [], "a weight was used before the snapshot was refused"
        return
    finally:
        for name, content in originals.items():
            (folder / name).write_bytes(content)
    free = {"weights_uri": "", "code_version": "", "created_at": ""}
    assert replace(said, **free) == replace(manifest, **free)
    assert all(np.array_equal(array, state[name]) for name, array in ensemble.state_dict().items())


@pytest.mark.parametrize("name", FILES)
def test_files_of_two_snapshots_are_not_mixed(bundle: tuple[SnapshotManifest, Path], tmp_path: Path, name: str) -> None:
    manifest, folder = bundle
    _, ensemble = load(folder)
    with torch.no_grad():
        ensemble.parameters[1]["bias_0"] += 1.0
    story = {field.name: getattr(manifest, field.name) for field in fields(Provenance)}
    other = tmp_path / publish(ensemble, Provenance(**story), tmp_path).id
    (other / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(DamagedStoreError, match="weights_sha256"):
        load(other)
