"""A tiny task, and a model that has learned it: the colour of a thing."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from tests.conftest import make_spec, positions_of

from rhapsode.engine.engine import Engine
from rhapsode.engine.load import Loaded
from rhapsode.evaluate.items import Item
from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.decoder import Decoder
from rhapsode.model.initialise import initialise
from rhapsode.text.chat import Message, render
from rhapsode.text.tokenizer import Tokenizer, train_tokenizer

COLOURS = {"sea": "blue", "wine": "red", "night": "black", "snow": "white", "grass": "green"}
WAYS = ("tell of the {}", "what is the {} like", "sing the {}", "of what colour is the {}")
CONTEXT = 128


def questions(*, as_text: bool = False) -> list[Item]:
    """Twenty, each a group of its own."""
    made = []
    for number, (way, (thing, colour)) in enumerate(itertools.product(WAYS, COLOURS.items())):
        asked = way.format(thing)
        prompt = f"{asked}:" if as_text else (Message(role="user", content=asked),)
        made.append(Item(f"q{number}", f"g{number}", prompt, f" {colour}" if as_text else colour))
    return made


def tokenizer_of(*, chat: bool) -> Tokenizer:
    """Of the same words, with a chat template or without one."""
    said = [f"{way.format(thing)}: {colour}\n\nUser: Assistant:" for way in WAYS for thing, colour in COLOURS.items()]
    made = train_tokenizer([*said, "user assistant"], vocab_size=340)
    return made if chat else Tokenizer(made._source.decode(), names=made.names, chat_template="")


def untrained(tokenizer: Tokenizer) -> Loaded:
    spec = make_spec(vocab_size=tokenizer.vocab_size, context=CONTEXT, width=64, ffn=96, head_dim=16)
    model = Decoder(spec)
    initialise(model, seed=0)
    return loaded(model, tokenizer)


def loaded(model: Decoder, tokenizer: Tokenizer) -> Loaded:
    stops = frozenset({tokenizer.eos, tokenizer.end_of_turn})
    return Loaded(Engine(model, stop_ids=stops, num_ids=tokenizer.vocab_size), tokenizer)


def trained(tokenizer: Tokenizer, items: Sequence[Item], *, steps: int = 80) -> Loaded:
    """A model that was tuned until it answers as the items want."""
    found = untrained(tokenizer)
    rows = [_learned(item, tokenizer) for item in items]
    length = max(len(ids) for ids, _ in rows)
    ids, mask = (torch.zeros(len(rows), length, dtype=torch.long) for _ in range(2))
    for row, (own, learned) in enumerate(rows):
        ids[row, : len(own)], mask[row, : len(own)] = torch.tensor(own), torch.tensor(learned).long()
    inside = torch.tensor([[int(place < len(own)) for place in range(length)] for own, _ in rows])
    model = found.engine.model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    attend = DenseAttend(inside, dtype=torch.float32)
    for _ in range(steps):
        hidden = model(ids, positions_of(inside), attend=attend)[:, :-1]
        is_target = mask[:, 1:].bool()
        loss = F.cross_entropy(model.logits(hidden[is_target]), ids[:, 1:][is_target])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loaded(model.eval(), tokenizer)


def _learned(item: Item, tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    if isinstance(item.prompt, str):
        asked, said = tokenizer.ids(item.prompt), [*tokenizer.encode(item.wanted), tokenizer.eos]
        return asked + said, [False] * len(asked) + [True] * len(said)
    whole = render((*item.prompt, Message(role="assistant", content=item.wanted)), tokenizer=tokenizer)
    return whole.ids, whole.mask
