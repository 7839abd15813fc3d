"""A collection: tasks that belong together, each with the protocol that its organisers score it by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """A task with its protocol; masked: the protocol for masked models, where it is another."""

    task: str
    protocol: str
    masked: str | None = None

    def protocol_for(self, *, masked: bool) -> str:
        """The protocol for a masked or a causal model."""
        return self.masked if masked and self.masked is not None else self.protocol


@dataclass(frozen=True, slots=True)
class Collection:
    """full: what the final model takes. fast: what every checkpoint takes."""

    name: str
    title: str
    citation: str
    full: tuple[Member, ...]
    fast: tuple[Member, ...]

    def members(self, *, fast: bool, masked: bool) -> list[tuple[str, str]]:
        """Names of tasks and of the protocols under which they are taken, in order."""
        return [(member.task, member.protocol_for(masked=masked)) for member in (self.fast if fast else self.full)]


def pairs(task: str, protocol: str) -> Member:
    """A task of minimal pairs: masked models take it by pseudo-log-likelihood, as the organisers' scorer does."""
    return Member(task, protocol, masked="pll")
