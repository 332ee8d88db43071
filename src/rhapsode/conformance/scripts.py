"""Characters to write with: scripts by their place in Unicode, emoji and how they join, marks that pile up."""

import unicodedata
from collections.abc import Mapping

RANGES: Mapping[str, tuple[tuple[int, int], ...]] = {
    "Latin": ((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0xFF), (0x100, 0x17F)),
    "Vietnamese": ((0x1EA0, 0x1EF9),),
    "Greek": ((0x391, 0x3C9), (0x1F00, 0x1FBC)),
    "Cyrillic": ((0x410, 0x44F), (0x400, 0x40F), (0x450, 0x45F)),
    "Armenian": ((0x531, 0x556), (0x561, 0x586)),
    "Hebrew": ((0x5D0, 0x5EA), (0x5B0, 0x5BC)),
    "Arabic": ((0x621, 0x64A), (0x64B, 0x652), (0x660, 0x669)),
    "Syriac": ((0x710, 0x72C),),
    "Devanagari": ((0x905, 0x939), (0x93E, 0x94D), (0x966, 0x96F)),
    "Bengali": ((0x985, 0x9B9), (0x9BE, 0x9CD)),
    "Gurmukhi": ((0xA05, 0xA39), (0xA3E, 0xA4D)),
    "Gujarati": ((0xA85, 0xAB9), (0xABE, 0xACD)),
    "Tamil": ((0xB85, 0xBB9), (0xBBE, 0xBCD)),
    "Telugu": ((0xC05, 0xC39), (0xC3E, 0xC4D)),
    "Kannada": ((0xC85, 0xCB9), (0xCBE, 0xCCD)),
    "Malayalam": ((0xD05, 0xD39), (0xD3E, 0xD4D)),
    "Sinhala": ((0xD85, 0xDC6), (0xDCF, 0xDDF)),
    "Thai": ((0xE01, 0xE3A), (0xE40, 0xE4E)),
    "Lao": ((0xE81, 0xEB9), (0xEC0, 0xECD)),
    "Tibetan": ((0xF40, 0xF6C), (0xF71, 0xF7C)),
    "Myanmar": ((0x1000, 0x103E),),
    "Georgian": ((0x10D0, 0x10F0),),
    "Ethiopic": ((0x1200, 0x1248),),
    "Khmer": ((0x1780, 0x17B3), (0x17B6, 0x17D2)),
    "Mongolian": ((0x1820, 0x1877),),
    "Hangul": ((0xAC00, 0xD7A3), (0x1100, 0x1112), (0x1161, 0x1175)),
    "Hiragana": ((0x3041, 0x3096),),
    "Katakana": ((0x30A1, 0x30FA), (0xFF66, 0xFF9D)),
    "Han": ((0x4E00, 0x9FA5),),
    "rare Han": ((0x20000, 0x2A6D6),),
    "Cherokee": ((0x13A0, 0x13F4),),
    "Gothic": ((0x10330, 0x1034A),),
    "cuneiform": ((0x12000, 0x12399),),
}

EMOJI = tuple("😀😂🥹🤖👻🎉🔥🌍🚀🍕🐙🧵🪶💜✨⚡☂⌨☕♟")
PEOPLE = tuple("👨👩🧑👶👧👦🧓🤷🙋🕵🏃💁")
SKINS = tuple(chr(code) for code in range(0x1F3FB, 0x1F400))
FLAG_LETTERS = tuple(chr(code) for code in range(0x1F1E6, 0x1F200))
JOINER, EMOJI_STYLE, KEYCAP = "\u200d", "\ufe0f", "\u20e3"
MARKS = tuple(chr(code) for code in (*range(0x300, 0x341), *range(0x346, 0x34E), *range(0x483, 0x488)))
SPACES = tuple("\u0020\u00a0\u1680\u2000\u2003\u2007\u2009\u200a\u202f\u205f\u3000")
INVISIBLE = tuple(
    "\u00ad\u034f\u061c\u115f\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202e\u2060\u2066\ufeff"
)
CONTROLS = tuple(chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)))
UNUSUAL = (
    *"\ue000\uf8ff\ufff9\ufffc\ufffd\ufffe\uffff\u2028\u2029\u0378",
    *(chr(code) for code in (0x1FFFE, 0xE0041, 0xE0100, 0xF0000, 0x10FFFF)),
)
"""Private use, not assigned, never to be assigned, tags, line and paragraph separators."""


def letters(script: str) -> tuple[str, ...]:
    """What words of a script are written with: its letters, marks and digits."""
    codes = (code for first, last in RANGES[script] for code in range(first, last + 1))
    return tuple(char for char in map(chr, codes) if unicodedata.category(char)[0] in "LMN")
