"""Mixing by raw chunks: sources in turn give a chunk of bytes each until all have given their quota.

So the published cards' texts were made. Cuts fall where they fall, within a line or a character; nothing is cleaned.
"""

from __future__ import annotations

from collections.abc import Sequence

from firstwords.corpus.corpus_files import TextWriter
from firstwords.corpus.shares import quotas, short_chunks, sources_too_small
from firstwords.corpus.sources import ResolvedSource, read_chunks
from firstwords.errors import FirstwordsError
from firstwords.settings import CorpusSettings


class _ChunkStream:
    """The raw bytes of one source, a chunk at a time, until its quota is used up."""

    def __init__(self, source: ResolvedSource, chunk_bytes: int, quota_bytes: int) -> None:
        self.name = source.name
        self.weight = source.settings.weight
        self.quota_bytes = quota_bytes
        self.given_bytes = 0
        self._chunks = read_chunks(source, chunk_bytes)
        self._rest = b""

    @property
    def lack_bytes(self) -> int:
        """What the source still has to give."""
        return self.quota_bytes - self.given_bytes

    def next_chunk(self) -> bytes:
        """The next chunk, cut to what is lacking; empty at the end of the source."""
        chunk = self._rest or next(self._chunks, b"")
        chunk, self._rest = chunk[: self.lack_bytes], chunk[self.lack_bytes :]
        self.given_bytes += len(chunk)
        return chunk


def mix_chunks(settings: CorpusSettings, sources: Sequence[ResolvedSource], writer: TextWriter) -> list[int]:
    """Write the mix; gives the bytes that each source gave.

    Raises FirstwordsError where a source is smaller than its quota and the recipe does not allow for it, and where a
    source has rules, which raw bytes cannot follow.
    """
    for source in sources:
        if source.settings.rules:
            raise FirstwordsError(
                f"mix = \"chunks\" cleans nothing, but the source '{source.name}' has rules",
                where=f"corpus.sources.{source.name}.rules",
                do='remove the rules, or set corpus.mix = "documents"',
            )
    parts = quotas(settings.budget.amount, [source.settings.weight for source in sources])
    streams = [_ChunkStream(source, settings.chunk_bytes, part) for source, part in zip(sources, parts, strict=True)]
    ended: set[str] = set()
    while any(stream.lack_bytes for stream in streams if stream.name not in ended):
        for number, stream in enumerate(streams):
            if not stream.lack_bytes or stream.name in ended:
                continue
            chunk = stream.next_chunk()
            if chunk:
                writer.add(chunk, number)
            else:
                ended.add(stream.name)
                _pass_on_lack(stream, [other for other in streams if other.name not in ended], settings, sources)
    return [stream.given_bytes for stream in streams]


def _pass_on_lack(
    short: _ChunkStream, others: Sequence[_ChunkStream], settings: CorpusSettings, sources: Sequence[ResolvedSource]
) -> None:
    """Deal with what a source that has ended still had to give, as corpus.short-sources says."""
    if settings.short_sources == "error":
        possible_bytes = _possible_bytes(settings, sources)
        raise short_chunks(short.name, short.given_bytes, short.quota_bytes, settings.budget, possible_bytes)
    if settings.short_sources == "redistribute":
        if not others:
            raise sources_too_small(settings.budget.amount - short.lack_bytes, settings.budget, "corpus.budget")
        extra = quotas(short.lack_bytes, [other.weight for other in others])
        short.quota_bytes = short.given_bytes
        for other, more in zip(others, extra, strict=True):
            other.quota_bytes += more


def _possible_bytes(settings: CorpusSettings, sources: Sequence[ResolvedSource]) -> int:
    """The largest budget of which every source has its quota."""
    total_weight = sum(source.settings.weight for source in sources)
    return min(
        int(sum(map(len, read_chunks(source, settings.chunk_bytes))) * total_weight / source.settings.weight)
        for source in sources
    )
