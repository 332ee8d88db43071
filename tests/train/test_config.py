import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rhapsode.train.config import Budget, TrainConfig, parse_budget


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("300 steps", Budget(300, "steps")),
        ("5m tokens", Budget(5_000_000, "tokens")),
        ("1.5k  tokens", Budget(1500, "tokens")),
        (" 2 epochs ", Budget(2, "epochs")),
        ("1.5 epochs", Budget(1.5, "epochs")),
        ("90s", Budget(90, "seconds")),
        ("10m", Budget(600, "seconds")),
        (" 1.5 h", Budget(5400, "seconds")),
        ("2d", Budget(172_800, "seconds")),
    ],
)
def test_a_budget_reads_as_people_write_it(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize(
    "value",
    [
        "",
        "300",
        300,
        "steps",
        "0 steps",
        "1.5 steps",
        "-1 steps",
        "3 apples",
        "1.2.3 epochs",
        "0m",
        "1.2.3h",
        "10mm",
        None,
    ],
)
def test_what_is_no_budget_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        TrainConfig.model_validate({"budget": value})


@given(
    st.one_of(
        st.builds(Budget, st.integers(1, 10**12), st.sampled_from(["steps", "tokens"])),
        st.builds(Budget, st.floats(0.001, 1000), st.just("epochs")),
        st.builds(Budget, st.integers(1, 10**6).map(float), st.just("seconds")),
    )
)
def test_a_written_budget_reads_back(budget: Budget) -> None:
    config = TrainConfig(budget=budget)
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("field", ["bath_tokens", "lr", "epochs"])
def test_an_unknown_field_is_refused(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        TrainConfig.model_validate({field: 1})


@pytest.mark.parametrize("text", ["90s", "10m", "2h", "1d"])
def test_a_time_is_written_in_its_largest_unit(text: str) -> None:
    assert str(parse_budget(text)) == text
