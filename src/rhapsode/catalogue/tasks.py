"""What a person may want a model for, and which to try first.

The order is ours, by what the model cards measure; what this machine can carry decides how far down the list to go.
"""

from typing import NamedTuple


class Task(NamedTuple):
    """What a model may be wanted for: a letter and words for it, and models to try, the best first."""

    letter: str
    words: tuple[str, ...]
    models: tuple[str, ...]


_SMALL_CHATS = (
    "gemma-3-1b-it",
    "llama-3.2-1b-it",
    "qwen3-0.6b",
    "smollm2-360m-it",
    "gemma-3-270m-it",
    "smollm2-135m-it",
)

TASKS = {
    "support chat": Task(
        "C",
        ("support", "chat", "customer", "assistant", "helpdesk"),
        ("qwen3-4b", "granite-3.3-2b-it", "smollm3-3b", "llama-3.2-3b-it", "qwen3-1.7b", *_SMALL_CHATS),
    ),
    "drafting": Task(
        "D",
        ("drafts", "write", "writing", "email", "letters", "text"),
        ("qwen3-4b", "llama-3.2-3b-it", "gemma-2-2b-it", "smollm3-3b", "qwen3-1.7b", *_SMALL_CHATS, "gemma-3-270m"),
    ),
    "summaries": Task(
        "S",
        ("summary", "summarise", "summarize", "digest", "minutes"),
        ("qwen3-4b", "llama-3.2-3b-it", "granite-3.3-2b-it", "smollm3-3b", "qwen3-1.7b", *_SMALL_CHATS),
    ),
    "translation": Task(
        "T",
        ("translate", "languages", "multilingual"),
        (
            "qwen3-4b",
            "eurollm-1.7b-it",
            "salamandra-2b-it",
            "qwen3-1.7b",
            "gemma-3-1b-it",
            "qwen3-0.6b",
            "gemma-3-270m-it",
        ),
    ),
    "question answering": Task(
        "Q",
        ("questions", "answers", "answering", "qa", "facts", "documents", "retrieval"),
        ("qwen3-4b", "phi-4-mini", "granite-3.3-2b-it", "smollm3-3b", "llama-3.2-3b-it", "qwen3-1.7b", *_SMALL_CHATS),
    ),
    "code": Task(
        "P",
        ("programming", "coding", "program", "developer"),
        (
            "qwen3-4b",
            "qwen2.5-coder-1.5b-it",
            "qwen2.5-coder-0.5b-it",
            "starcoder2-3b",
            "qwen2.5-coder-1.5b",
            "qwen2.5-coder-0.5b",
        ),
    ),
    "tutoring": Task(
        "L",
        ("tutor", "teaching", "school", "lessons", "mathematics", "maths", "reasoning"),
        ("qwen3-4b", "phi-4-mini", "smollm3-3b", "deepseek-r1-1.5b", "qwen3-1.7b", "qwen3-0.6b", "gemma-3-1b-it"),
    ),
}


def good_for(name: str) -> tuple[str, ...]:
    """The tasks that a model is among the first choices for."""
    return tuple(task for task, choice in TASKS.items() if name in choice.models)
