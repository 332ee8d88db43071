"""`adapter_config.json` as PEFT writes and reads it, and the `AdapterSpec` that it stands for.

PEFT's file has some forty keys, and every release adds some. What changes what an adapter computes is understood or
refused by name; a key that is not known is let pass only where it says nothing.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

from rhapsode.core.errors import RhapsodeError
from rhapsode.model.adapter import targets, token_rows
from rhapsode.model.adapter_spec import ALL_LINEAR, AdapterSpec
from rhapsode.model.families.registry import FAMILIES
from rhapsode.model.spec import ModelSpec

HARMLESS = {
    *("auto_mapping", "base_model_name_or_path", "fan_in_fan_out", "inference_mode", "megatron_core", "peft_version"),
    *("qalora_group_size", "revision", "runtime_config", "task_type", "lora_dropout", "eva_config"),
}
"""Bookkeeping, what PEFT finds out by itself, what only training feels, and sizes of what is not used."""
READ = {
    *("peft_type", "r", "lora_alpha", "target_modules", "layers_to_transform", "layers_pattern", "bias"),
    *("use_dora", "use_rslora", "init_lora_weights", "trainable_token_indices"),
}
PLAIN_BEGINNINGS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Ways to begin that leave the base model as it is; others change it, and their adapters fit the changed one alone."""
SAVED = ["score"]
PEFT_SAVES = (SAVED, ["classifier", "score"])
"""The head for labels, as we name it and as PEFT does of its own accord."""
SHOWN = 60


def adapter_config(adapter: AdapterSpec, *, spec: ModelSpec, base_name: str) -> dict[str, Any]:
    """What PEFT reads.

    Args:
        base_name: where readers look for the base model: a directory, or a name on a hub.
    """
    hit = targets(spec, adapter)
    is_all, has_head = adapter.targets == (ALL_LINEAR,), spec.head is not None and bool(spec.head.labels)
    return {
        "alpha_pattern": {},
        "auto_mapping": None,
        "base_model_name_or_path": base_name,
        "bias": "none",
        "fan_in_fan_out": any(target.is_transposed for target in hit),
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None if adapter.layers is None else list(adapter.layers),
        "lora_alpha": int(adapter.alpha) if adapter.alpha == int(adapter.alpha) else adapter.alpha,
        "lora_dropout": 0.0,
        "modules_to_save": SAVED if has_head else None,
        "peft_type": "LORA",
        "r": adapter.rank,
        "rank_pattern": {},
        "revision": None,
        "target_modules": sorted({target.name for target in hit}) if is_all else list(adapter.targets),
        "task_type": "SEQ_CLS" if has_head else "CAUSAL_LM",
        "trainable_token_indices": {name: list(adapter.tokens) for name in _token_modules(spec, adapter)} or None,
        "use_dora": adapter.kind == "dora",
        "use_rslora": adapter.is_rslora,
    }


def read_adapter_config(
    config: Mapping[str, Any], *, spec: ModelSpec, modules: Collection[str], where: str
) -> AdapterSpec:
    """The adapter that a config describes.

    Args:
        modules: those that the file of tensors speaks of. They stand for a regular expression, which is not tried: it
            comes from a stranger, and some take for ever.
        where: the file, to begin a message with.

    Raises:
        RhapsodeError: a key asks for what is not built, or says what cannot be; names it.
    """
    fields = _Fields(config, where)
    fields.check_kind()
    has_head = spec.head is not None and bool(spec.head.labels)
    fields.check_silence(has_head=has_head)
    layers = fields.layers(spec)
    return AdapterSpec(
        rank=fields.whole("r"),
        alpha=fields.positive("lora_alpha"),
        targets=fields.targets(modules),
        kind="dora" if fields.flag("use_dora") else "lora",
        is_rslora=fields.flag("use_rslora"),
        layers=layers,
        tokens=fields.tokens(spec),
    )


def _token_modules(spec: ModelSpec, adapter: AdapterSpec) -> list[str]:
    """The last words of the names of what has a row for every token."""
    return [module.rpartition(".")[2] for module in token_rows(spec, adapter).values()]


class _Fields:
    """The keys of one file."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self._config, self._where = config, where

    def check_kind(self) -> None:
        kind, bias = self._config.get("peft_type"), self._config.get("bias", "none")
        if kind != "LORA":
            raise self._wrong("peft_type", "LORA", "other kinds of adapters are not built")
        if bias != "none":
            raise self._wrong("bias", '"none"', "an adapter that trains biases is not built")
        if self._config.get("init_lora_weights") not in PLAIN_BEGINNINGS:
            raise self._wrong(
                "init_lora_weights",
                "true",
                "this way to begin changes the base model; have PEFT convert it: save_pretrained(DIRECTORY, "
                "path_initial_model_for_weight_conversion=...)",
            )

    def check_silence(self, *, has_head: bool) -> None:
        """Keys that are not known say nothing, and modules that are learned whole are the head alone."""
        for key, value in self._config.items():
            if key == "modules_to_save" and has_head and value in PEFT_SAVES:
                continue
            if key not in READ | HARMLESS and value not in (None, False, [], {}, ""):
                raise self._wrong(key, "nothing", "it is not understood, and an adapter is never applied approximately")

    def whole(self, key: str) -> int:
        value = self._config.get(key)
        if type(value) is not int or not 1 <= value < 2**20:
            raise self._wrong(key, "a whole number from 1")
        return value

    def positive(self, key: str) -> float:
        value = self._config.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise self._wrong(key, "a number above 0")
        return float(value)

    def flag(self, key: str) -> bool:
        value = self._config.get(key)
        if value is not None and type(value) is not bool:
            raise self._wrong(key, "true or false")
        return bool(value)

    def targets(self, modules: Collection[str]) -> tuple[str, ...]:
        value = self._config.get("target_modules")
        if value == ALL_LINEAR:
            return (ALL_LINEAR,)
        if isinstance(value, str):
            return tuple(sorted(modules))
        if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
            raise self._wrong("target_modules", "a list of names")
        return tuple(value)

    def layers(self, spec: ModelSpec) -> tuple[int, ...] | None:
        value, pattern = self._config.get("layers_to_transform"), self._config.get("layers_pattern")
        if value is None or value == []:
            return None
        [*_, own, _, _] = FAMILIES[spec.family].names.layer.split(".")  # model.layers.{}.
        if pattern and pattern not in (own, [own]):
            raise self._wrong("layers_pattern", f"{own}, which is what the blocks are called", "correct it")
        found = value if isinstance(value, list) else [value]
        if not all(type(layer) is int and 0 <= layer < len(spec.layers) for layer in found):
            raise self._wrong("layers_to_transform", f"numbers of blocks, from 0 to {len(spec.layers) - 1}")
        return tuple(sorted(set(found)))

    def tokens(self, spec: ModelSpec) -> tuple[int, ...]:
        """Those whose rows are trained: in the embedding, and where the head is not the same matrix, in that too."""
        key = "trainable_token_indices"
        value = self._config.get(key)
        if value in (None, [], {}):
            return ()
        by_module = value if isinstance(value, dict) else {"embed_tokens": value}
        [found, *others] = by_module.values()
        if not isinstance(found, list) or not all(type(token) is int and token >= 0 for token in found):
            raise self._wrong(key, "numbers of tokens")
        if len(set(found)) < len(found) or any(other != found for other in others):
            raise self._wrong(key, "the same tokens for all modules, each once")
        tokens = tuple(found)
        adapter = AdapterSpec(rank=1, alpha=1, tokens=tokens)
        embedding, *head = _token_modules(spec, adapter)
        names = {name.rpartition(".")[2] for name in by_module}
        wanted = {embedding, *head}
        if names != wanted and not (spec.tied and names == {embedding, "lm_head"}):
            raise self._wrong(key, f"for {' and '.join(sorted(wanted))}", "rows of one of the two alone are not built")
        return tokens

    def _wrong(self, key: str, wanted: str, hint: str = "get the adapter again") -> RhapsodeError:
        shown = str(self._config.get(key))[:SHOWN]
        return RhapsodeError(f"{self._where}: {key} is {shown}; it must be {wanted}", hint)
