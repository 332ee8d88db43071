"""A tiny model that calls a tool, and says what came of it."""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tests.conftest import make_spec, positions_of

from rhapsode.core.manifest import writing
from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.decoder import Decoder
from rhapsode.model.initialise import initialise
from rhapsode.text.chat import Function, Message, ToolCall, render
from rhapsode.text.tokenizer import Tokenizer, train_tokenizer
from rhapsode.weights.directory import write_model

_MADE: list[Path] = []
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
CITIES = {"Paris": "rain", "Rome": "sun"}


def asked(words: str) -> Message:
    return Message(role="user", content=words)


def called(city: str, *, words: str) -> Message:
    function = Function(name="weather", arguments=json.dumps({"city": city}))
    return Message(role="assistant", content=words, tool_calls=(ToolCall(function=function),))


def talk(city: str, *, question: str, words: str) -> tuple[Message, ...]:
    told = (Message(role="tool", content=CITIES[city]), Message(role="assistant", content=CITIES[city]))
    return (asked(question.format(city)), called(city, words=words), *told)


CONVERSATIONS = [talk(city, question="How is {}?", words="Let me look.") for city in CITIES]
# where somebody shouts, it does so without a word; at the same places, so that it need not learn those anew
AT_ONCE = [talk(city, question="How is {}!", words="") for city in CITIES]


def taught(tokenizer: Tokenizer) -> Decoder:
    """A tiny model that looks at the weather where it may, and says what it saw."""
    torch.manual_seed(0)
    model = Decoder(make_spec(vocab_size=tokenizer.vocab_size, context=1024, width=64, ffn=96, head_dim=16))
    initialise(model, seed=0)
    rows = [render(messages, tokenizer=tokenizer, tools=[TOOL]) for messages in [*CONVERSATIONS, *AT_ONCE]]
    length = max(len(row.ids) for row in rows)
    ids, mask, inside = (torch.zeros(len(rows), length, dtype=torch.long) for _ in range(3))
    for at, row in enumerate(rows):
        size = len(row.ids)
        ids[at, :size], mask[at, :size], inside[at, :size] = torch.tensor(row.ids), torch.tensor(row.mask).long(), 1
    optimizer, attend = torch.optim.Adam(model.parameters(), lr=5e-3), DenseAttend(inside, dtype=torch.float32)
    is_target = mask[:, 1:].bool()
    for _ in range(300):
        hidden = model(ids, positions_of(inside), attend=attend)[:, :-1]
        loss = F.cross_entropy(model.logits(hidden[is_target]), ids[:, 1:][is_target])
        if loss < 0.01:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def caller(root: Path) -> Path:
    """A folder with the model `tiny`, and its tokenizer; made once for all tests that talk to it."""
    if _MADE:
        return _MADE[0]
    texts = [message.content for messages in [*CONVERSATIONS, *AT_ONCE] for message in messages] + [json.dumps(TOOL)]
    tokenizer = train_tokenizer(texts * 3, vocab_size=400)
    (root / "tokenizer").mkdir()
    tokenizer.save(root / "tokenizer")
    model = taught(tokenizer)
    with writing(root / "tiny", kind="model") as work:
        write_model(
            work.path,
            spec=model.spec,
            weights=[(name, value.detach()) for name, value in model.named_parameters()],
            tokenizer_dir=root / "tokenizer",
            stops=(tokenizer.end_of_turn,),
        )
    _MADE.append(root)
    return root
