"""The catalogue's facts hold against each other and against what Rhapsode loads."""

import subprocess
import sys

import pytest

from rhapsode.catalogue.models import CATALOGUE
from rhapsode.catalogue.store import is_name
from rhapsode.catalogue.tasks import TASKS, good_for
from rhapsode.model.families.registry import FAMILIES

ENTRIES = list(CATALOGUE.values())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_shape_has_as_many_parameters_as_its_publisher_counts(entry):
    assert abs(entry.spec.parameters - entry.parameters) < 0.02 * entry.parameters
    assert entry.family in FAMILIES
    assert is_name(entry.name)
    assert entry.repo.count("/") == 1


def test_the_catalogue_is_sorted_and_holds_each_model_once():
    sizes = [entry.parameters for entry in ENTRIES]
    assert sizes == sorted(sizes)
    assert len({entry.repo for entry in ENTRIES}) == len(ENTRIES)


def test_windows_are_where_the_families_have_them():
    gemma = [layer.window for layer in CATALOGUE["gemma-3-270m"].spec.layers]
    assert gemma == [512, 512, 512, 512, 512, None] * 3
    assert [layer.window for layer in CATALOGUE["gemma-2-2b"].spec.layers[:4]] == [4096, None, 4096, None]
    assert {layer.window for layer in CATALOGUE["starcoder2-3b"].spec.layers} == {4096}
    assert {layer.window for layer in CATALOGUE["qwen3-4b"].spec.layers} == {None}


def test_tasks_name_models_of_the_catalogue_and_small_ones_among_them():
    assert len({task.letter for task in TASKS.values()}) == len(TASKS)
    for task in TASKS.values():
        assert set(task.models) <= set(CATALOGUE)
        assert len(set(task.models)) == len(task.models)
        assert min(CATALOGUE[name].parameters for name in task.models) < 1e9
    assert "translation" in good_for("eurollm-1.7b-it")
    assert good_for("gpt2") == ()


def test_the_catalogue_needs_no_torch():
    script = "import sys, rhapsode.catalogue.models, rhapsode.catalogue.pull, rhapsode.catalogue.recommend\n"
    script += "print([name for name in ('torch', 'numpy', 'huggingface_hub') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
