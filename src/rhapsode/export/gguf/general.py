"""What a GGUF file says about itself: the keys `general.*`, and its name.

Name, licence and languages come from the manifest and the model card that lie in the directory. A file is called
Base-Size-Encoding.gguf, as the format's own naming convention has it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gguf.utility import size_label

from rhapsode.core.errors import RecipeError
from rhapsode.core.events import Events
from rhapsode.core.manifest import Manifest
from rhapsode.core.yaml import read_yaml
from rhapsode.export.gguf.encodings import Encoding
from rhapsode.model.spec import ModelSpec

LONGEST_FRONT = 1 << 16

_NAME = re.compile(
    r"(?P<base>.*?)[-_ ](?P<experts>\d+x)?(?P<size>\d+(?:\.\d+)?[kmbt])"
    r"(?:[-_ ](?P<finetune>(?!v\d).*?))?(?:[-_ ](?P<version>v\d+(?:\.\d+)*))?",
    re.IGNORECASE,
)
_FRONT = re.compile(r"---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
_ODD = re.compile(r"[^\w.+-]+")


class Title(NamedTuple):
    """The parts of a model's name. `finetune` is what its name says after the size, "it" for example."""

    name: str
    base: str
    size: str
    finetune: str = ""
    version: str = ""

    def file_name(self, encoding: Encoding) -> str:
        parts = (self.base, self.size, self.finetune, self.version, encoding.name)
        return "-".join(_ODD.sub("-", part) for part in parts if part) + ".gguf"


def title(name: str, *, spec: ModelSpec) -> Title:
    """The parts of `name`; a size that it says is kept, else the parameters are counted."""
    said = _NAME.fullmatch(name)
    if said is None:
        return Title(name, name, _size(spec))
    size = (said["experts"] or "").lower() + said["size"].upper()
    return Title(name, said["base"], size, said["finetune"] or "", said["version"] or "")


def read_card(directory: Path, *, events: Events) -> Mapping[str, Any]:
    """The front matter of the model card, where there is one; a card that cannot be read is warned about."""
    file = directory / "README.md"
    if not file.is_file():
        return {}
    with file.open("rb") as opened:
        front = _FRONT.match(opened.read(LONGEST_FRONT).decode("utf-8", "replace"))
    if front is None:
        return {}
    try:
        value = read_yaml(front[1], name=str(file)).value
    except RecipeError as error:
        events.emit("warning", message=f"the front matter of the model card is left out: {error.message}")
        return {}
    return value if isinstance(value, dict) else {}


def general(name: Title, encoding: Encoding, *, manifest: Manifest, card: Mapping[str, Any]) -> dict[str, Any]:
    """Keys `general.*` and their values; what nobody has said is left out."""
    licence = card.get("license")
    if licence in (None, "other", "unknown"):
        licence = card.get("license_name") or manifest.facts.get("licence")
    languages = card.get("language")
    said = {
        "general.type": "model",
        "general.name": name.name,
        "general.basename": name.base,
        "general.size_label": name.size,
        "general.finetune": name.finetune,
        "general.version": name.version,
        "general.license": licence,
        "general.license.link": card.get("license_link"),
        "general.languages": [languages] if isinstance(languages, str) else languages,
        "general.tags": card.get("tags"),
        "rhapsode.source.origin": manifest.facts.get("source"),
    }
    numbers = {"general.quantization_version": 2, "general.file_type": int(encoding.file_type)}
    return {key: value for key, value in said.items() if _is_sayable(value)} | numbers


def _size(spec: ModelSpec) -> str:
    """Parameters, counted; of experts as "8x7B": how many, and the size with one of them."""
    layers = [layer for layer in spec.layers if layer.experts]
    count = max((layer.experts.count for layer in layers if layer.experts), default=0)
    one = sum((3 if spec.gated else 2) * spec.width * layer.ffn for layer in layers)
    return size_label(spec.parameters, spec.parameters - one * count, one, count)


def _is_sayable(value: object) -> bool:
    """A text, or a list of texts: what a card says may be anything."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, str) for item in value)
    return isinstance(value, str) and bool(value)
