"""Numbers as people write them: "5m" tokens, "64 KiB", "5%", and the way back.

Reading is exact (decimal arithmetic), so "0.1 GB" is 100000000 bytes and "1.5 B" is refused rather than rounded.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

KiB, MiB, GiB = 2**10, 2**20, 2**30

LARGEST = 2**63 - 1
_LARGEST_POWER = 18
_NUMBER = re.compile(r"\s*([+-]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*(.*?)\s*", re.DOTALL)


class Scale(NamedTuple):
    """The units of one kind of number; the first unit of a size is the one that messages name."""

    units: Mapping[str, int]
    examples: tuple[str | int, ...]

    def named(self) -> str:
        return ", ".join(self.units)


COUNTS = Scale({"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12, "Ki": KiB, "Mi": MiB}, ("64k", "5m", 5000))
SIZES = Scale(
    {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": KiB, "MiB": MiB, "GiB": GiB},
    ("10 MB", "64 KiB", 4096),
)
SHARES = ("5%", 0.05)


def parse_count(value: object) -> int:
    """A whole number such as 5000, 1e6, "64k" or "5m".

    Raises:
        ValueError: it is not one, or its unit is unknown.
    """
    return _parse_whole(value, COUNTS)


def parse_bytes(value: object) -> int:
    """A size in bytes such as 4096, "10 MB" or "64 KiB".

    Raises:
        ValueError: it is not one, or its unit is unknown.
    """
    return _parse_whole(value, SIZES)


def parse_share(value: object) -> float:
    """A part of a whole, such as 0.05 or "5%".

    Raises:
        ValueError: it is not a number from 0 to 1.
    """
    number, unit = _split(value, ("5%", "0.05"))
    if unit not in ("", "%"):
        raise ValueError(f"{value!r}: unknown unit {unit!r}; use % or a plain number from 0 to 1")
    share = float(number / 100 if unit else number)
    if not 0 <= share <= 1:
        raise ValueError(f"{_shown(value)} is not from 0 to 1 (0% to 100%)")
    return share


def format_count(count: float) -> str:
    """12345678 -> "12.3m"."""
    return _format(count, (("t", 10**12), ("b", 10**9), ("m", 10**6), ("k", 10**3)), "")


def format_bytes(size: float) -> str:
    """12345678 -> "12.3 MB"."""
    return _format(size, ((" TB", 10**12), (" GB", 10**9), (" MB", 10**6), (" kB", 10**3)), " B")


def format_joules(joules: float) -> str:
    """3.6 MJ is a kilowatt-hour: 5400 -> "5.4 kJ (1.5 Wh)", below a kilojoule joules alone."""
    if joules < 1000:
        return f"{joules:.0f} J"
    return f"{_format(joules, ((' GJ', 10**9), (' MJ', 10**6), (' kJ', 10**3)), '')} ({_watt_hours(joules / 3600)})"


def _watt_hours(hours: float) -> str:
    return f"{hours / 1000:.1f} kWh" if hours >= 1000 else f"{hours:.1f} Wh"


def format_seconds(seconds: float) -> str:
    """3.21 -> "3.2 s", 75 -> "1 min 15 s", 7260 -> "2 h 1 min"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def _parse_whole(value: object, scale: Scale) -> int:
    number, unit = _split(value, tuple(str(example) for example in scale.examples))
    factor = {name.lower(): factor for name, factor in scale.units.items()}.get(unit.lower()) if unit else 1
    if factor is None:
        raise ValueError(f"{value!r}: unknown unit {unit!r}; use {scale.named()}")
    if number < 0:
        raise ValueError(f"{_shown(value)} is negative")
    # Looking at the exponent first: "1e999999999" as an int would fill the memory.
    if number.adjusted() > _LARGEST_POWER or number * factor > LARGEST:
        raise ValueError(f"{_shown(value)} is too large")
    if (whole := int(number * factor)) != number * factor:
        raise ValueError(f"{_shown(value)} is not a whole number")
    return whole


def _split(value: object, examples: tuple[str, ...]) -> tuple[Decimal, str]:
    """The number and its unit ("" if there is none)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        if number.is_finite():
            return number, ""
    elif isinstance(value, str) and (match := _NUMBER.fullmatch(value)):
        return Decimal(match[1]), match[2]
    raise ValueError(f"{_shown(value)} is not a number; write for example {', '.join(examples)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _format(value: float, units: tuple[tuple[str, int], ...], plain: str) -> str:
    for unit, factor in units:
        if abs(value) >= factor:
            return f"{value / factor:.1f}{unit}"
    return f"{value:.0f}{plain}"
