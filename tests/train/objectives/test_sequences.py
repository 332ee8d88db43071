import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.train.objectives.conftest import Answers, log_probs_of, plain_log_probs

from rhapsode.core.errors import RhapsodeError
from rhapsode.model.decoder import Decoder
from rhapsode.train.objectives.sequences import NONE, sequence_lengths, sequence_means, sequence_sums


def test_answers_of_packed_rows_are_those_looked_at_one_by_one(policy: Decoder, answers: Answers) -> None:
    found = log_probs_of(policy, answers)
    expected = plain_log_probs(policy, answers)
    sums = sequence_sums(found, answers.sequences, answers.count)
    torch.testing.assert_close(sums, torch.stack([x.sum() for x in expected]), rtol=1e-9, atol=1e-9)
    means = sequence_means(found, answers.sequences, answers.count)
    torch.testing.assert_close(means, torch.stack([x.mean() for x in expected]), rtol=1e-9, atol=1e-9)


@given(
    sequence=st.lists(st.integers(NONE, 4), max_size=30),
    cut=st.integers(0, 30),
    seed=st.integers(0, 99),
)
def test_sums_of_parts_add_up(sequence: list[int], cut: int, seed: int) -> None:
    values = torch.randn(len(sequence), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    sequence_N = torch.tensor(sequence, dtype=torch.long)
    whole = sequence_sums(values, sequence_N, 5)
    parts = sequence_sums(values[:cut], sequence_N[:cut], 5) + sequence_sums(values[cut:], sequence_N[cut:], 5)
    torch.testing.assert_close(whole, parts)
    expected = [sum(v for v, s in zip(values.tolist(), sequence, strict=True) if s == number) for number in range(5)]
    assert whole.tolist() == pytest.approx(expected)
    assert sequence_lengths(sequence_N, 5).tolist() == [sequence.count(number) for number in range(5)]


def test_an_answer_without_tokens_has_a_sum_and_no_mean() -> None:
    values, sequence = torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0, 2, NONE])
    assert sequence_sums(values, sequence, 3).tolist() == [1.0, 0.0, 2.0]
    with pytest.raises(RhapsodeError, match="answers without a token have no mean: number 1 of 3"):
        sequence_means(values, sequence, 3)


def test_no_answer_at_all() -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    assert sequence_sums(torch.zeros(0), nothing, 0).shape == (0,)
    assert sequence_means(torch.zeros(0), nothing, 0).shape == (0,)


def test_a_token_of_an_answer_that_is_not_counted_is_an_error() -> None:
    with pytest.raises(RhapsodeError, match="a token belongs to answer 3, but there are only 3"):
        sequence_sums(torch.ones(2), torch.tensor([0, 3]), 3)
