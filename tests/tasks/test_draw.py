"""Chance that is the same for everybody, so that a project that is made again is the same."""

from rhapsode.tasks.draw import Draw


def test_a_seed_draws_what_it_has_always_drawn() -> None:
    """Whoever changes this changes the rows of every new project."""
    draw = Draw("rhapsode")
    assert [draw.number(1, 100) for _ in range(6)] == [59, 34, 96, 15, 13, 49]
    assert draw.some("abcdef", 3) == ["f", "a", "d"]
    assert (draw.one("xyz"), draw.text(["{a}!", "{a}?"], a="b")) == ("x", "b?")


def test_seeds_differ_and_draws_stay_in_their_bounds() -> None:
    drawn = {seed: [Draw(seed).number(3, 5) for _ in range(20)] for seed in ("a", "b", "c", "d")}
    assert {number for numbers in drawn.values() for number in numbers} <= {3, 4, 5}
    draw = Draw("a")
    assert {draw.number(3, 5) for _ in range(100)} == {3, 4, 5}
    assert sorted(draw.some(range(5), 5)) == [0, 1, 2, 3, 4]
