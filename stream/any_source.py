"""A stream of any kind, to be recorded: samples through one reader, text through the other."""

from __future__ import annotations

from stream.lsl import StreamQuery
from stream.lsl_source import LslSource
from stream.source_info import SourceInfo
from stream.text_source import TextSource

__all__ = ["any_source"]


def any_source(info: SourceInfo, *, history_s: float, timeout_s: float) -> LslSource | TextSource:
    """Return what takes in this stream; it is not started yet.

    Parameters
    ----------
    info : SourceInfo
        As `stream.lsl.find_streams` gives it.
    history_s : float
        How far a reader of samples may fall behind.
    timeout_s : float
        How long the stream is looked for at the start.
    """
    query = StreamQuery(info.name, info.type, info.source_id)
    if info.format == "string":
        return TextSource(query, timeout_s=timeout_s)
    return LslSource(query, history_s=history_s, timeout_s=timeout_s)
