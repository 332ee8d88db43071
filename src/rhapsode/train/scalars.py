"""The numbers in a run's events, by the names that trackers show them under."""

from rhapsode.core.events import Event

FIELDS = {
    "step": (
        "loss",
        "smooth_loss",
        "learning_rate",
        "grad_norm",
        "tokens",
        "tokens_per_second",
        "utilisation",
        "seconds_left",
        "joules",
    ),
    "validation": ("bits_per_byte",),
}


def scalars(event: Event) -> dict[str, float]:
    """For example {"step/loss": 3.2}, and {"validation/by_source/code": 1.3}."""
    fields = event.fields
    found = {f"{event.kind}/{name}": fields[name] for name in FIELDS.get(event.kind, ()) if name in fields}
    if event.kind == "validation":
        found |= {f"validation/by_source/{source}": bits for source, bits in fields.get("by_source", {}).items()}
    return {name: float(value) for name, value in found.items() if value is not None}
