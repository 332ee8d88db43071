"""The list of families, and the way from a `config.json` to a `ModelSpec`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.model.families.fields import Fields, shown
from rhapsode.model.families.gemma import gemma, gemma2, gemma3
from rhapsode.model.families.gpt2 import GPT2_NAMES, gpt2
from rhapsode.model.families.granite import granite
from rhapsode.model.families.heads import architecture, put_in_place, read_head
from rhapsode.model.families.llama import llama
from rhapsode.model.families.mistral import MIXTRAL_NAMES, mistral, mixtral
from rhapsode.model.families.names import POST_NORM, SANDWICH, STANDARD, Names
from rhapsode.model.families.olmo import olmo2, olmo3, olmoe
from rhapsode.model.families.phi import PHI3_CODE, PHI3_NAMES, phi3
from rhapsode.model.families.qwen import qwen2, qwen3, qwen3_moe
from rhapsode.model.families.smollm import smollm3
from rhapsode.model.families.stablelm import stablelm
from rhapsode.model.families.starcoder import STARCODER2_NAMES, starcoder2
from rhapsode.model.spec import Head, ModelSpec


class Family(NamedTuple):
    """What a `model_type` stands for.

    Attributes:
        architecture: the class name that `config.json` announces.
        read: the spec of a config.
        names: where parameters lie on disk.
        code: the auto_map of models that were published with the code which transformers later took in as its own.
    """

    architecture: str
    read: Callable[[Fields], ModelSpec]
    names: Names = STANDARD
    code: Mapping[str, str] = MappingProxyType({})

    @property
    def stem(self) -> str:
        """What the names of its classes begin with."""
        return STEMS.get(self.architecture) or self.architecture.removesuffix("ForCausalLM")


STEMS = {"Gemma3ForCausalLM": "Gemma3Text", "GPT2LMHeadModel": "GPT2"}
"""Where the class that writes is called otherwise than those with other heads."""
MOST_PARAMETERS = 10**13


FAMILIES = {
    "gemma": Family("GemmaForCausalLM", gemma),
    "gemma2": Family("Gemma2ForCausalLM", gemma2, SANDWICH),
    "gemma3_text": Family("Gemma3ForCausalLM", gemma3, SANDWICH),
    "gpt2": Family("GPT2LMHeadModel", gpt2, GPT2_NAMES),
    "granite": Family("GraniteForCausalLM", granite),
    "llama": Family("LlamaForCausalLM", llama),
    "mistral": Family("MistralForCausalLM", mistral),
    "mixtral": Family("MixtralForCausalLM", mixtral, MIXTRAL_NAMES),
    "olmo2": Family("Olmo2ForCausalLM", olmo2, POST_NORM),
    "olmo3": Family("Olmo3ForCausalLM", olmo3, POST_NORM),
    "olmoe": Family("OlmoeForCausalLM", olmoe),
    "phi3": Family("Phi3ForCausalLM", phi3, PHI3_NAMES, PHI3_CODE),
    "qwen2": Family("Qwen2ForCausalLM", qwen2),
    "qwen3": Family("Qwen3ForCausalLM", qwen3),
    "qwen3_moe": Family("Qwen3MoeForCausalLM", qwen3_moe),
    "smollm3": Family("SmolLM3ForCausalLM", smollm3),
    "stablelm": Family("StableLmForCausalLM", stablelm),
    "starcoder2": Family("Starcoder2ForCausalLM", starcoder2, STARCODER2_NAMES),
}


def spec_from_config(config: Mapping[str, Any]) -> ModelSpec:
    """The spec of a `config.json`.

    Raises:
        RhapsodeError: the family is unknown, a value cannot be, or a key is not understood; never approximated.
    """
    name = config.get("model_type")
    if not isinstance(name, str) or name not in FAMILIES:
        raise RhapsodeError(
            f"config.json: model_type {shown(name)} is not a family that Rhapsode knows",
            f"known: {', '.join(FAMILIES)}",
        )
    family = FAMILIES[name]
    fields = Fields(_without_code(config, family))
    fields.only("architectures", [[family.architecture], *([architecture(family.stem, has)] for has in (True, False))])
    spec = family.read(fields)
    if (head := read_head(fields, family.stem)) is not None:
        spec = put_in_place(spec, head, stem=family.stem)
    if odd := fields.not_understood():
        raise RhapsodeError(
            f"config.json has keys that are not understood for {name}: {', '.join(odd)}",
            "a model is never loaded approximately; choose another, or add what they ask for",
        )
    if spec.parameters > MOST_PARAMETERS:
        raise RhapsodeError(
            f"config.json describes a model of {spec.parameters:.0e} parameters, which nobody has", "restore the file"
        )
    return spec


def with_head(spec: ModelSpec, head: Head, *, pad: int) -> ModelSpec:
    """The same architecture with this head in place of whatever it has.

    Args:
        pad: the id that readers of the model fill rows of a batch with.
    """
    config = {**spec.config, "pad_token_id": pad}
    return put_in_place(replace(spec, config=config), head, stem=FAMILIES[spec.family].stem)


def _without_code(config: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """The config less the code that it names, which is never run: only a family's own was published with it."""
    named = config.get("auto_map") or {}
    own = isinstance(named, dict) and all(
        str(code).rpartition("--")[2] == family.code.get(k) for k, code in named.items()
    )
    if not own:
        raise RhapsodeError(
            "config.json asks to run code that came with the model (auto_map), which Rhapsode never does",
            f"if the model is an ordinary {config['model_type']}, remove auto_map from a copy of its config.json",
        )
    return {key: value for key, value in config.items() if key != "auto_map"}
