"""Errors that a user can act on."""

from __future__ import annotations


class SlotSegError(Exception):
    """Bad input, told in one line: what is wrong, with its file or key, and what to do.

    The command-line tools print it without a traceback.
    """


class DatasetError(SlotSegError):
    """A data set, or one of its files, is missing or damaged."""


class ConfigError(SlotSegError):
    """A config key is unknown, or its value cannot work."""


class CheckpointError(SlotSegError):
    """A checkpoint is damaged, unsafe to load, or of another model."""


class NonFiniteLossError(SlotSegError):
    """A loss became NaN or infinite."""
