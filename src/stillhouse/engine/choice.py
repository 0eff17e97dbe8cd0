"""Which engine a home is set to use."""

from enum import StrEnum

import msgspec

from stillhouse.engine.engine import Engine


class EngineKind(StrEnum):
    """Where work on rows is done: in processes of this machine, or on a Ray cluster."""

    LOCAL = "local"
    RAY = "ray"


class EngineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``workers`` 0: as many as processors. ``address`` "": as Ray finds its cluster."""

    kind: EngineKind = EngineKind.LOCAL
    workers: int = 0
    address: str = ""


def open_engine(settings: EngineSettings) -> Engine:
    """The engine of these settings; nothing is started before there is work. Raises MissingExtra."""
    if settings.kind is EngineKind.RAY:
        from stillhouse.engine.ray_engine import RayEngine

        return RayEngine(settings.address)
    if settings.workers == 1:
        from stillhouse.engine.inline_engine import InlineEngine

        return InlineEngine()
    from stillhouse.engine.local_engine import LocalEngine

    return LocalEngine(settings.workers)
