"""Steps of fixed shapes equal those of the CPU, and can be one CUDA graph."""

from collections.abc import Callable, Sequence
from math import nan

import numpy as np
import pytest
import torch
from ase.build import bulk
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from lmlp_stream.atoms.batch import Batch, Example, collate
from lmlp_stream.atoms.padding import Capacity
from lmlp_stream.atoms.structure import LabelledStructure, from_ase
from lmlp_stream.config import Config, parse_config
from lmlp_stream.errors import DivergedError
from lmlp_stream.learning import static_step
from lmlp_stream.learning import trainer as trainer_module
from lmlp_stream.learning.core_optimizer import CoRe
from lmlp_stream.learning.loss import Loss
from lmlp_stream.learning.static_step import StaticStep
from lmlp_stream.learning.trainer import Trainer
from lmlp_stream.potential.baseline import Baseline
from lmlp_stream.potential.ensemble import Ensemble
from tests.unit.learning.recorded import OnTheDevice, by_tensors, recorded
from tests.unit.learning.structures import AMMONIA, METHANE, WATER, labelled

WATERS, METHANES, AMMONIAS = ([labelled(index, kind) for index in range(4)] for kind in (WATER, METHANE, AMMONIA))
HEADS = {"": 0, "B": 1, "C": 2}
PLASTIC = {"score_history": 3, "frozen": 0.1}


def config_of(device: str = "cpu", dtype: str = "float64", levels: Sequence[str] = (), **core: object) -> Config:
    tree = {
        "wire": {"level_of_theory": "A", "further_levels": levels},
        "symmetry": {"preset": "published", "cutoff": 4.0},
        "potential": {"members": 2, "hidden": (6, 5), "linear_features": 20, "device": device, "dtype": dtype},
        "learning": {"averaged_steps": 3},
        "core": {"settling_steps": 2, **core},
    }
    return parse_config(tree, place="test")


def cell(index: int, repeat: tuple[int, int, int] = (1, 1, 1)) -> LabelledStructure:
    """A periodic structure whose atoms are neighbors of their own images, with a label of some size."""
    atoms = bulk("NbMo", "cesiumchloride", a=3.2).repeat(repeat)
    atoms.rattle(0.1, seed=index)
    forces = np.random.default_rng(index).normal(size=(len(atoms), 3))
    plain = {name: getattr(from_ase(atoms), name) for name in ("atomic_numbers", "positions", "cell", "pbc")}
    names = {"id": f"cell/{index}/{repeat}", "group": "cell", "domain": "cell"}
    return LabelledStructure(**plain, **names, energy=-100.0 * len(atoms) - index, forces=forces)


def batch_of(trainer: Trainer, structures: Sequence[LabelledStructure]) -> Batch:
    evaluate = trainer.functions.evaluate
    return collate([Example(item, evaluate(item), HEADS[item.level_of_theory]) for item in structures])


def learn(trainer: Trainer, structures: Sequence[LabelledStructure]):
    """One step of a trainer that meets elements as a learner does; the report."""
    of_heads = [[item for item in structures if HEADS[item.level_of_theory] == head] for head in range(3)]
    trainer.ensemble.baseline.fit(of_heads[0])
    batch = batch_of(trainer, structures)
    trainer.follow(batch)
    if of_heads[0]:
        trainer.add_elements(batch_of(trainer, of_heads[0]))
    for head in (1, 2):
        if of_heads[head]:
            trainer.begin(head, batch_of(trainer, of_heads[head]))
    return trainer.step(batch)


MICRO_BATCHES = [
    WATERS,
    WATERS[:1],
    [*METHANES, *WATERS],
    METHANES[:3],
    [cell(0), *WATERS[2:]],
    [*AMMONIAS, cell(1, (2, 1, 1)), labelled(9, WATER, energy=nan), labelled(8, METHANE, forces=np.full((5, 3), nan))],
    WATERS[:2],
    [labelled(9, METHANE, weight=7.0), *AMMONIAS[:2], cell(2)],
]


def check_equal(one: Trainer, other: Trainer) -> None:
    """Weights, averages, moments, step counts and the usual loss."""
    expected, found = one.state_dict(), other.state_dict()
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-10, atol=1e-11, err_msg=name)


@pytest.fixture(params=[False, True], ids=["as it is", "recorded"])
def captures(request, monkeypatch) -> list[Callable[[], None]]:
    """What steps were made of so far; on the CPU they are done as they are, or as a CUDA graph would do them."""
    made = []

    def counting(work, device):
        made.append(recorded(work, device) if request.param else work)
        return made[-1]

    if request.param:
        by_tensors(monkeypatch)
    monkeypatch.setattr(static_step, "graphed", counting)
    return made


@pytest.mark.parametrize("core", [{}, PLASTIC, {"betas": (0.0, 0.0, 1.0, -1.0)}], ids=["", "plastic", "resilient"])
def test_every_step_equals_that_of_the_cpu(captures, core) -> None:
    plain, static = Trainer(config_of(**core)), Trainer(config_of(**core), static=True)
    for structures in MICRO_BATCHES + MICRO_BATCHES[::-1]:
        expected, found = learn(plain, structures), learn(static, structures)
        assert found.energy_loss == pytest.approx(expected.energy_loss, rel=1e-10)
        assert found.force_loss == pytest.approx(expected.force_loss, rel=1e-10)
        np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-10)
        check_equal(plain, static)


def test_steps_of_several_levels_of_theory_equal_those_of_the_cpu(captures) -> None:
    plain, static = (Trainer(config_of(levels=("B", "C")), static=is_static) for is_static in (False, True))
    at_b = [labelled(index, WATER, level_of_theory="B", energy=5.0 + index) for index in range(3)]
    at_c = [labelled(index, METHANE, level_of_theory="C", energy=-7.0 * index) for index in range(2)]
    for structures in (WATERS, at_b, [*WATERS[:2], *at_c, *at_b], METHANES, [*at_c, *METHANES, *WATERS]):
        expected, found = learn(plain, structures), learn(static, structures)
        np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-10)
        check_equal(plain, static)


def test_in_single_precision_it_says_the_same(captures) -> None:
    double, single = Trainer(config_of()), Trainer(config_of(dtype="float32"), static=True)
    for structures in MICRO_BATCHES:
        expected, found = learn(double, structures), learn(single, structures)
        np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-3)
    assert all(tensor.dtype == torch.float32 for tensor in single.ensemble.parameters[8].values())


def test_once_it_has_met_everything_nothing_is_captured_again(captures) -> None:
    trainer = Trainer(config_of(), static=True)
    for structures in MICRO_BATCHES:
        learn(trainer, structures)
    settled = len(captures)
    assert settled <= len(MICRO_BATCHES)
    for structures in MICRO_BATCHES:
        learn(trainer, structures)
        trainer.sound(batch_of(trainer, structures[:1]))
    assert len(captures) == settled


def test_what_is_not_needed_any_more_is_given_up(captures, monkeypatch) -> None:
    monkeypatch.setattr(trainer_module, "RENEWED", 3)
    trainer, plain = Trainer(config_of(), static=True), Trainer(config_of())
    learn(trainer, [cell(0)])
    wide = trainer._static.capacity.n_neighbors
    for _ in range(2 * 3):
        learn(trainer, WATERS)
    assert trainer._static.capacity.n_neighbors <= wide / 2
    for structures in ([cell(0)], *[WATERS] * (2 * 3)):
        learn(plain, structures)
    check_equal(plain, trainer)


def test_how_much_is_filled_up_does_not_matter(captures) -> None:
    narrow, wide = Trainer(config_of(), static=True), Trainer(config_of(), static=True)
    for trainer in (narrow, wide):
        learn(trainer, WATERS)
    capacity = Capacity(n_structures=20, atoms={1: 96, 8: 64}, n_neighbors=40)
    wide._static = StaticStep(wide._training, wide._averaged, wide._optimizer, wide._config.learning, capacity)
    for structures in (WATERS, WATERS[1:], WATERS[:1]):
        learn(narrow, structures)
        learn(wide, structures)
    assert wide._static.capacity == capacity
    check_equal(narrow, wide)


def test_elements_that_are_absent_keep_weights_averages_and_moments(captures) -> None:
    trainer = Trainer(config_of(), static=True)
    learn(trainer, [*WATERS, *METHANES])
    before = trainer.state_dict()
    learn(trainer, WATERS[:2])
    after = trainer.state_dict()
    carbon = [
        name for name in before if name.startswith(("training.element.6.", "ensemble.element.6.", "optimizer.6."))
    ]
    assert len(carbon) == 2 * 8 + 1 + 3 * 8
    assert all(np.array_equal(after[name], before[name]) for name in carbon)
    assert not np.array_equal(after["training.element.8.weight_0"], before["training.element.8.weight_0"])


@pytest.mark.parametrize("changes", [{"energy": 1e9}, {"forces": np.full((3, 3), np.inf)}], ids=["large", "infinite"])
def test_a_label_that_explodes_changes_nothing(captures, changes) -> None:
    trainer = Trainer(config_of(), static=True)
    for structures in MICRO_BATCHES[:3]:
        learn(trainer, structures)
    before, bad = trainer.state_dict(), [*WATERS[:2], labelled(7, WATER, **changes)]
    batch = batch_of(trainer, bad)
    assert not trainer.sound(batch)
    with pytest.raises(
        DivergedError, match=r"the loss \(energy .*, force .*\) or its gradient is not finite or explodes"
    ):
        trainer.step(batch)
    after = trainer.state_dict()
    assert all(np.array_equal(after[name], array) for name, array in before.items())


def test_asking_whether_a_step_is_sound_changes_nothing(captures) -> None:
    trainer = Trainer(config_of(), static=True)
    learn(trainer, WATERS)
    before = trainer.state_dict()
    assert trainer.sound(batch_of(trainer, WATERS))
    assert trainer.sound(batch_of(trainer, WATERS[:1]))
    after = trainer.state_dict()
    assert all(np.array_equal(after[name], array) for name, array in before.items())


def test_saved_and_restored_goes_on_as_if_it_had_never_stopped(captures) -> None:
    through, stopped = (Trainer(config_of(**PLASTIC), static=True) for _ in range(2))
    for structures in MICRO_BATCHES:
        learn(through, structures)
        learn(stopped, structures)
    resumed = Trainer(config_of(**PLASTIC), static=True)
    resumed.load_state_dict(stopped.state_dict())
    for structures in MICRO_BATCHES[::-1]:
        learn(through, structures)
        learn(resumed, structures)
    check_equal(through, resumed)


def on_a_fake_gpu(trainer: Trainer, config: Config, capacity: Capacity) -> StaticStep:
    """The step that a GPU would capture, with arrays that have a shape and a device, and no numbers."""
    device, optimizer, ensembles = torch.device("cuda", 0), CoRe(config.core, independent_axes=1), []
    for like in (trainer._training, trainer.ensemble):
        kind = {"hidden": like.hidden, "members": like.members, "dtype": like.dtype, "baseline": Baseline({})}
        ensembles.append(Ensemble(like.spec, device=device, **kind))
        ensembles[-1].parameters = {
            z: {name: torch.empty(tensor.shape, dtype=tensor.dtype, device=device) for name, tensor in named.items()}
            for z, named in like.parameters.items()
        }
    for z, named in ensembles[0].parameters.items():
        optimizer.add_group(z, list(named.values()), frozen=[config.core.frozen])
    return StaticStep(*ensembles, optimizer, config.learning, capacity)


def run_on_a_fake_gpu(monkeypatch) -> None:
    monkeypatch.setattr(static_step, "graphed", lambda work, _: work)
    config = config_of(dtype="float32", **PLASTIC)
    trainer = Trainer(config)
    batch = batch_of(trainer, [*WATERS, *METHANES])
    trainer.add_elements(batch)
    with FakeTensorMode(allow_non_fake_inputs=True):
        step = on_a_fake_gpu(trainer, config, Capacity().grown(batch, trainer.ensemble.elements))
        with OnTheDevice():
            step.run()


def test_the_step_waits_for_no_number_and_all_its_shapes_are_known(monkeypatch) -> None:
    run_on_a_fake_gpu(monkeypatch)


WAITS = {
    "a number": (lambda energy: energy * float(energy.sum()), DataDependentOutputException),
    "a condition": (lambda energy: energy if energy.sum() > 0 else 0 * energy, DataDependentOutputException),
    "a shape": (lambda energy: energy + energy[energy > 0].sum(), DynamicOutputShapeException),
    "an array of the host": (lambda energy: energy * torch.ones(1).to(energy.device), RuntimeError),
}


@pytest.mark.parametrize(("change", "error"), WAITS.values(), ids=WAITS)
def test_a_step_that_waits_is_found(monkeypatch, change, error) -> None:
    by_energy = Loss.by_energy
    monkeypatch.setattr(Loss, "by_energy", lambda loss, energy: change(by_energy(loss, energy)))
    with pytest.raises(error):
        run_on_a_fake_gpu(monkeypatch)


def test_a_number_that_a_graph_would_keep_is_found(monkeypatch) -> None:
    by_energy = Loss.by_energy
    by_tensors(monkeypatch)
    monkeypatch.setattr(static_step, "graphed", recorded)
    monkeypatch.setattr(Loss, "by_energy", lambda loss, energy: by_energy(loss, energy) * float(energy.mean()))
    plain, static = Trainer(config_of()), Trainer(config_of(), static=True)
    for trainer in (plain, static):
        learn(trainer, WATERS)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_equal(plain, static)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("core", [{}, PLASTIC], ids=["", "plastic"])
def test_a_gpu_makes_the_steps_of_the_cpu_by_one_graph(core) -> None:
    here, there = Trainer(config_of(**core)), Trainer(config_of("cuda", **core))
    for number, structures in enumerate(MICRO_BATCHES + MICRO_BATCHES[::-1]):
        expected, found = learn(here, structures), learn(there, structures)
        np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-6)
        if number == 0:  # later, gradients that are nothing but rounding have moved weights that nothing depends on
            expected, found = here.state_dict(), there.state_dict()
            for name in (name for name in expected if name.startswith("optimizer.") and name.endswith("gradient")):
                np.testing.assert_allclose(found[name], expected[name], rtol=1e-7, atol=1e-10, err_msg=name)
    before = there.state_dict()
    bad = batch_of(there, [*WATERS[:2], labelled(7, WATER, forces=np.full((3, 3), np.inf))])
    assert not there.sound(bad)
    with pytest.raises(DivergedError):
        there.step(bad)
    after = there.state_dict()
    assert all(np.array_equal(after[name], array) for name, array in before.items())
