"""Chat templates for models that were published without one, in words that their vocabulary has tokens for."""

from collections.abc import Collection
from typing import NamedTuple

from rhapsode.text.chatml import CHATML, END_OF_TURN, START_OF_TURN, TOOLS_BEFORE, TOOLS_BEHIND, literal


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
    "{% if message['role'] not in ['user', 'assistant', 'tool'] %}"
    "{{ raise_exception('only user, assistant and tool speak') }}"
    "{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\\n' }}"
    "{% if loop.first %}"
    "{{ before }}"
    "{% if tools %}"
    "{{ " + literal(TOOLS_BEFORE) + " }}"
    "{% for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}"
    "{{ " + literal(TOOLS_BEHIND) + " + '\\n\\n' }}"
    "{% endif %}"
    "{% endif %}"
    "{% set content = (message['content'] or '') | trim %}"
    "{% if message['role'] == 'tool' %}"
    "{{ '<tool_response>\\n' + content + '\\n</tool_response>' }}"
    "{% else %}"
    "{{ content }}"
    "{% for call in message['tool_calls'] or [] %}"
    "{{ '\\n' if content or not loop.first else '' }}"
    "{{ '<tool_call>\\n{\"name\": ' + (call['function']['name'] | tojson) + ', \"arguments\": ' }}"
    "{{ call['function']['arguments'] | tojson }}"
    "{{ '}\\n</tool_call>' }}"
    "{% endfor %}"
    "{% endif %}"
    "{{ '<end_of_turn>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
"""Turns as Gemma 2 and 3 write them; what the system says stands before the first question.

They have no words for tools, so these are those of our own ChatML: the list before the first question, a result as a
turn of the user.
"""

KNOWN = (
    Known("chatml", CHATML, frozenset({START_OF_TURN, END_OF_TURN})),
    Known("gemma", GEMMA, frozenset({"<start_of_turn>", "<end_of_turn>"})),
)


def suitable(special: Collection[str]) -> Known | None:
    """The first template whose tokens are all among the special ones of a vocabulary."""
    return next((known for known in KNOWN if known.tokens <= set(special)), None)
