import pytest

from rhapsode.core.errors import (
    GateNotPassed,
    Interrupted,
    PlanRefused,
    RecipeError,
    RhapsodeError,
    VerificationMismatch,
)


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (RhapsodeError, 1),
        (RecipeError, 2),
        (PlanRefused, 3),
        (GateNotPassed, 4),
        (VerificationMismatch, 5),
        (Interrupted, 130),
    ],
)
def test_every_kind_of_error_has_the_promised_exit_code(kind: type[RhapsodeError], exit_code: int) -> None:
    error = kind("a.yaml:3: no", "write yes")
    assert isinstance(error, RhapsodeError)
    assert error.exit_code == exit_code
    assert (str(error), error.message, error.hint) == ("a.yaml:3: no", "a.yaml:3: no", "write yes")


def test_an_interruption_tells_which_signal_it_was() -> None:
    assert Interrupted("stopped", exit_code=143).exit_code == 143
    assert Interrupted("stopped").exit_code == 130
