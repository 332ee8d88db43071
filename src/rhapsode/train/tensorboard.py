"""A listener that writes TensorBoard files, one scalar a tag, beside events.jsonl."""

from pathlib import Path

from tensorboardX import SummaryWriter

from rhapsode.core.events import Event

SCALARS = {
    "step": ("loss", "learning_rate", "grad_norm", "tokens_per_second", "utilisation"),
    "validation": ("bits_per_byte",),
}


class TensorBoard:
    """Hears every event, writes those that have scalars."""

    def __init__(self, directory: Path) -> None:
        self._writer = SummaryWriter(str(directory))

    def __call__(self, event: Event) -> None:
        for name in SCALARS.get(event.kind, ()):
            self._writer.add_scalar(f"{event.kind}/{name}", event.fields[name], event.fields["step"], event.time)

    def close(self) -> None:
        self._writer.close()
