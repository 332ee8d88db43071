"""Errors that a user can act on.

Every failure that is not a defect of ours is a `RhapsodeError`: its message says what is wrong and where
(file, line, key), its hint says what to do. The exit code belongs to the kind of error, so a script can branch on it.
"""


class RhapsodeError(Exception):
    """Something the user can put right."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RecipeError(RhapsodeError):
    """The recipe or the command line is not valid."""

    exit_code = 2


class PlanRefused(RhapsodeError):
    """What would run is not what was planned, or the plan cannot succeed."""

    exit_code = 3


class GateNotPassed(RhapsodeError):
    """The model was measured and is not good enough for the recipe's gate."""

    exit_code = 4


class VerificationMismatch(RhapsodeError):
    """Bytes or behaviour differ from what the evidence says."""

    exit_code = 5


class Interrupted(RhapsodeError):
    """A signal asked us to stop; the work so far is saved. 130 for Ctrl-C, 143 for SIGTERM."""

    exit_code = 130

    def __init__(self, message: str, hint: str = "", *, exit_code: int = 130) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code
