"""Open models of three sizes, as their published `config.json` files say."""

from typing import Any, NamedTuple

from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.spec import ModelSpec


class Model(NamedTuple):
    """`parameters` is what its publisher's files add up to, which the shape must give too."""

    title: str
    parameters: int
    config: dict[str, Any]

    @property
    def spec(self) -> ModelSpec:
        return spec_from_config(self.config)


def _llama(*, width: int, ffn: int, layers: int, heads: int, kv_heads: int, tied: bool) -> dict[str, Any]:
    """What the Llama 3 models differ in; positions play no part in what is counted here."""
    return {
        "model_type": "llama",
        "vocab_size": 128_256,
        "hidden_size": width,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": tied,
    }


LLAMA_1B = Model(
    "Llama 3.2 1B",
    1_235_814_400,
    _llama(width=2_048, ffn=8_192, layers=16, heads=32, kv_heads=8, tied=True),
)
LLAMA_8B = Model(
    "Llama 3.1 8B",
    8_030_261_248,
    _llama(width=4_096, ffn=14_336, layers=32, heads=32, kv_heads=8, tied=False),
)
LLAMA_70B = Model(
    "Llama 3.1 70B",
    70_553_706_496,
    _llama(width=8_192, ffn=28_672, layers=80, heads=64, kv_heads=8, tied=False),
)
MISTRAL_7B = Model(
    "Mistral 7B v0.3",
    7_248_023_552,
    {
        "model_type": "mistral",
        "vocab_size": 32_768,
        "hidden_size": 4_096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_act": "silu",
        "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1_000_000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
    },
)
SIZES = (LLAMA_1B, MISTRAL_7B, LLAMA_70B)
