from dataclasses import replace

import pytest

from rhapsode.catalogue.fit import (
    CACHE_BYTES,
    REQUESTS,
    chat_memory,
    decode_speed,
    fit,
    lora_parameters,
    training_memory,
)
from rhapsode.catalogue.models import CATALOGUE
from rhapsode.catalogue.recommend import find_task, recommend
from rhapsode.catalogue.tasks import TASKS
from rhapsode.core.errors import RecipeError
from rhapsode.core.machine import Figures, Machine
from rhapsode.engine.config import EngineConfig

FIGURES = Figures(bandwidth=22e9, fp32_flops=200e9, bf16_flops=900e9)
GEMMA = CATALOGUE["gemma-3-270m"].spec


def machine(*, memory: float, available: float) -> Machine:
    return Machine("Linux", "Fast 9000", (), 2, int(memory), int(available), 10**12, 2)


def test_decoding_is_as_fast_as_the_memory_and_the_small_operators_allow():
    parameters = 4 * (GEMMA.matrix_parameters + GEMMA.vocab_size * GEMMA.width)
    assert decode_speed(GEMMA, bandwidth=22e9) < 22e9 / parameters
    assert decode_speed(GEMMA, bandwidth=44e9) < 2 * decode_speed(GEMMA, bandwidth=22e9)
    assert 10 < decode_speed(GEMMA, bandwidth=22e9) < 16, "13.3 tokens/s were measured"


def test_the_memory_is_what_was_measured():
    assert chat_memory(GEMMA) == pytest.approx(2.66e9, rel=0.05)
    assert training_memory(GEMMA, is_full=True) == pytest.approx(9.77e9, rel=0.05)
    assert training_memory(CATALOGUE["smollm2-135m"].spec, is_full=True) == pytest.approx(4.16e9, rel=0.05)


def test_lora_needs_less_and_goes_faster():
    found = fit(GEMMA, machine=machine(memory=32e9, available=30e9), figures=FIGURES)
    assert found.lora.memory < found.full.memory
    assert found.lora.tokens_per_second > found.full.tokens_per_second
    assert lora_parameters(GEMMA) < 0.05 * GEMMA.parameters


def test_only_the_experts_that_compute_cost_time_and_all_cost_memory():
    mixture = CATALOGUE["olmoe-1b-7b"].spec
    dense = CATALOGUE["mistral-7b"].spec
    assert chat_memory(mixture) > 0.9 * chat_memory(dense)
    assert decode_speed(mixture, bandwidth=22e9) > 3 * decode_speed(dense, bandwidth=22e9)


def test_a_verdict_is_about_the_free_memory_and_then_about_all_of_it():
    need = chat_memory(GEMMA)
    verdicts = [
        fit(GEMMA, machine=machine(memory=total * need, available=free * need), figures=FIGURES).chat.verdict
        for total, free in ((4, 2), (4, 1), (1, 1))
    ]
    assert verdicts == ["fits", "tight", "does not fit"]


def test_the_engines_room_is_what_its_config_says():
    config = EngineConfig()
    assert (config.memory, config.max_requests) == (CACHE_BYTES, REQUESTS)
    short, long = replace(GEMMA, context=128), replace(GEMMA, context=65_536)
    assert chat_memory(short) < chat_memory(GEMMA) == chat_memory(long)


@pytest.mark.parametrize(
    ("words", "task"),
    [
        ("support chat", "support chat"),
        ("Customer Support", "support chat"),
        ("summarise", "summaries"),
        ("tutering", "tutoring"),
        ("coding", "code"),
        ("answer questions", "question answering"),
    ],
)
def test_a_task_is_found_by_the_words_people_use(words, task):
    assert find_task(words) == task


def test_an_unknown_task_lists_those_that_are_known():
    with pytest.raises(RecipeError) as failure:
        find_task("painting")
    assert all(task in failure.value.hint for task in TASKS)


def fits(*, memory: float, bandwidth: float):
    figures = FIGURES._replace(bandwidth=bandwidth)
    place = machine(memory=memory, available=memory)
    return {name: fit(entry.spec, machine=place, figures=figures) for name, entry in CATALOGUE.items()}


def test_a_large_fast_machine_gets_the_first_choice():
    advice = recommend("support chat", fits(memory=256e9, bandwidth=500e9))
    assert advice.entry is not None
    assert advice.entry.name == TASKS["support chat"].models[0]
    assert "the first choice for support chat" in advice.because


def test_a_slow_machine_gets_one_that_keeps_up_with_a_reader():
    advice = recommend("support chat", fits(memory=24e9, bandwidth=22e9))
    assert advice.entry is not None
    assert advice.entry.parameters < 1e9
    assert "quick enough here" in advice.because


def test_where_nothing_is_quick_the_best_that_fits_is_named_and_said_to_be_slow():
    advice = recommend("support chat", fits(memory=24e9, bandwidth=1e8))
    assert advice.entry is not None
    assert "slower than people read" in advice.because


def test_a_tiny_machine_is_told_so():
    advice = recommend("code", fits(memory=1e8, bandwidth=22e9))
    assert advice.entry is None
    assert "no model of the catalogue" in advice.because
