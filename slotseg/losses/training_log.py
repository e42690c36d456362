"""What losses read from, and tell, the training that they run in; nothing outside of one."""

from __future__ import annotations

from detectron2.utils.events import EventStorage, get_event_storage


def training_iteration() -> int | None:
    """The iteration of the running training, None outside of one."""
    storage = _storage()
    return None if storage is None else int(storage.iter)


def log_scalar(name: str, value: float) -> None:
    """Let a number appear in TensorBoard and in the metrics file."""
    storage = _storage()
    if storage is not None:
        storage.put_scalar(name, float(value))


def _storage() -> EventStorage | None:
    try:
        return get_event_storage()
    except AssertionError:  # how Detectron2 says that no training is under way
        return None
