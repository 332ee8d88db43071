"""A listener that writes TensorBoard files, one scalar a tag, beside events.jsonl."""

from pathlib import Path

from tensorboardX import SummaryWriter

from rhapsode.core.events import Event
from rhapsode.train.scalars import scalars


class TensorBoard:
    """Hears every event, writes the numbers in it and what the model wrote."""

    def __init__(self, directory: Path) -> None:
        self._writer = SummaryWriter(str(directory))

    def __call__(self, event: Event) -> None:
        for name, value in scalars(event).items():
            self._writer.add_scalar(name, value, event.fields["step"], event.time)
        if event.kind == "samples":
            for number, sample in enumerate(event.fields["samples"], start=1):
                text = f"{_quoted(sample['prompt'])}\n\n{_quoted(sample['completion'], mark='+')}"
                self._writer.add_text(f"samples/{number}", text, event.fields["step"], event.time)

    def close(self) -> None:
        self._writer.close()


def _quoted(text: str, *, mark: str = " ") -> str:
    """An indented block: TensorBoard reads Markdown, and a model may write anything."""
    return "\n".join(f"    {mark} {line}" for line in text.splitlines())
