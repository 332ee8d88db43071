"""Chat templates for models that were published without one, in words that their vocabulary has tokens for."""

from collections.abc import Collection
from typing import NamedTuple

from rhapsode.text.chatml import CHATML, END_OF_TURN, START_OF_TURN


class Known(NamedTuple):
    """A template, and the tokens that it needs."""

    name: str
    template: str
    tokens: frozenset[str]


GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% set before = messages[0]['content'] + '\\n\\n' %}{% set turns = messages[1:] %}"
    "{% else %}{% set before = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}"
    "{% if message['role'] not in ['user', 'assistant'] %}"
    "{{ raise_exception('only user and assistant speak') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\\n' }}"
    "{{ (before if loop.first else '') + message['content'] | trim }}"
    "{{ '<end_of_turn>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
"""Turns as Gemma 2 and 3 write them; what the system says stands before the first question."""

KNOWN = (
    Known("chatml", CHATML, frozenset({START_OF_TURN, END_OF_TURN})),
    Known("gemma", GEMMA, frozenset({"<start_of_turn>", "<end_of_turn>"})),
)


def suitable(special: Collection[str]) -> Known | None:
    """The first template whose tokens are all among the special ones of a vocabulary."""
    return next((known for known in KNOWN if known.tokens <= set(special)), None)
