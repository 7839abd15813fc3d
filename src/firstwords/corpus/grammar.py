"""The built-in grammar: endless English-like text in three registers, and minimal pairs of it. ARTIFICIAL.

    lexicon.py           the words and their forms
    grammar_phrases.py   noun phrases and other parts of a sentence
    grammar_pairs.py     the constructions that are tested
    grammar.py           everyday sentences, documents, and the three functions that the rest of firstwords calls

Nobody ever wrote or said this text. It is here so that a first run needs no download, and as an instrument: what is
grammatical is known, so an untrained model must score 50% on the pairs and a trained one far more. How well a model
does on it says nothing about how well it does on English.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

from firstwords.corpus.grammar_pairs import PARADIGMS, Paradigm
from firstwords.corpus.grammar_phrases import HABITS, PAST_TIMES, POSSESSIVES, REFLEXIVES, Phrases, sentence
from firstwords.corpus.lexicon import (
    ACTORS,
    ANIMATE,
    DITRANSITIVE,
    INTRANSITIVE,
    NAMES,
    THINGS,
    TO_SOMEONE,
    TO_SOMETHING,
    TRADES,
    TRANSITIVE,
    Noun,
)
from firstwords.errors import FirstwordsError, did_you_mean

ARTIFICIAL_NOTICE = (
    "Artificial text, made by firstwords' built-in grammar from some 350 words. "
    "No person wrote it, it states no facts, and results on it say nothing about English at large."
)
REGISTERS = ("encyclopedic", "conversation", "subtitles")


@final
@dataclass(frozen=True, slots=True)
class GrammarPair:
    """Two sentences of equal length in words, of which the grammar makes only the good one."""

    uid: str
    phenomenon: str
    good: str
    bad: str


def documents(register: str, seed: int) -> Iterator[str]:
    """Documents of one register without end, the same for the same seed; none is empty or ends in a line break.

    Raises FirstwordsError for a register that is not among REGISTERS.
    """
    if register not in _WRITERS:
        hint = did_you_mean(register, REGISTERS)
        raise FirstwordsError(
            f"the built-in grammar has no register '{register}'" + (f": {hint}" if hint else "."),
            where=f"grammar:{register}",
            do=f"choose one of {', '.join(REGISTERS)}.",
        )
    write = _WRITERS[register]
    phrases = Phrases(random.Random(f"{register} {seed}"))
    while True:
        yield write(phrases)


def minimal_pairs(seed: int, per_paradigm: int) -> Iterator[GrammarPair]:
    """`per_paradigm` pairs of each paradigm, all different, of combinations of words that no document has.

    The pairs of one square follow each other; take an even number, or the last of each paradigm lacks its twin and the
    balance of forms is off by that one.
    """
    for paradigm in PARADIGMS:
        phrases = Phrases(random.Random(f"{paradigm.uid} {seed}"), held_out=True)
        yield from _pairs(paradigm, phrases, per_paradigm)


def _pairs(paradigm: Paradigm, phrases: Phrases, wanted: int) -> Iterator[GrammarPair]:
    seen: set[str] = set()
    made = 0
    while made < wanted:
        square = paradigm.square(phrases)
        twins = {square.good(0), square.good(1)}
        if twins & seen:
            continue
        seen |= twins
        for row in range(min(2, wanted - made)):
            yield GrammarPair(paradigm.uid, paradigm.phenomenon, square.good(row), square.bad(row))
            made += 1


# ------------------------------------------------------------------------------------------- everyday sentences
# They surround the constructions that are tested, show each word in other places, and rule out short cuts: `when` is
# not always followed by a verb without object, `because` not always by one, and so on.


def _present(p: Phrases) -> str:
    noun = p.actor(ANIMATE)
    many = p.plural(noun)
    if p.chance(0.5):
        verb = p.partner(noun, TRANSITIVE)
        rest = p.object_of(verb)
    else:
        verb = p.partner(noun, INTRANSITIVE)
        rest = p.pick(HABITS)
    return f"{p.phrase(noun, many)} {verb.base if many else verb.third} {rest}."


def _kind(p: Phrases) -> str:
    noun = p.actor(ANIMATE)
    verb = p.partner(noun, INTRANSITIVE)
    return f"{p.common(noun, plural=True)} {verb.base} {p.somewhere()} {p.pick(HABITS)}."


def _past(p: Phrases) -> str:
    return f"{_event(p, p.actor())}{' ' + p.pick(PAST_TIMES) if p.chance(0.3) else ''}."


def _event(p: Phrases, noun: Noun) -> str:
    """`the king found a key`, `the wolves slept`."""
    subject = p.subject(noun, p.plural(noun))
    if p.chance(0.4):
        return f"{subject} {p.partner(noun, INTRANSITIVE).past}"
    verb = p.partner(noun, TRANSITIVE)
    return f"{subject} {verb.past} {p.object_of(verb)}"


def _because(p: Phrases) -> str:
    link = p.pick(("because", "after", "before", "when"))
    return f"{_event(p, p.actor())} {link} {_event(p, p.actor())}."


def _reported(p: Phrases) -> str:
    noun = p.actor()
    return f"{p.phrase(noun, p.plural(noun))} {p.clausal(noun).past} that {_event(p, p.actor())}."


def _pronoun(p: Phrases) -> str:
    verb = p.pick(TRANSITIVE.members)
    return f"{p.pick(('he', 'she', 'they', 'we', 'I', 'you'))} {verb.past} {p.object_of(verb)}."


def _state(p: Phrases) -> str:
    noun = p.actor()
    many = p.plural(noun)
    return f"{p.subject(noun, many)} {'were' if many else 'was'} {p.state(noun)}."


def _progressive(p: Phrases) -> str:
    noun = p.actor()
    many = p.plural(noun)
    return f"{p.phrase(noun, many)} {'are' if many else 'is'} {p.partner(noun, INTRANSITIVE).gerund} {p.somewhere()}."


def _there(p: Phrases) -> str:
    noun = p.actor(ANIMATE) if p.chance(0.5) else p.pick(THINGS.members)
    many = p.chance(0.5)
    rest = p.common(noun, many)
    some = p.pick(("two", "three", "some", "many")) if many else "an" if rest[0] in "aeiou" else "a"
    return f"there {'are' if many else 'is'} {some} {rest} {p.somewhere()}."


def _relative(p: Phrases) -> str:
    noun = p.actor(ANIMATE)
    many = p.plural(noun)
    inner = p.partner(noun, TRANSITIVE)
    return f"{p.phrase(noun, many)} that {inner.past} {p.object_of(inner)} {p.partner(noun, INTRANSITIVE).past}."


def _itself(p: Phrases) -> str:
    noun = p.actor()
    many = noun.gender is None or p.plural(noun)
    reflexive = "themselves" if many else REFLEXIVES[noun.gender or "it"]
    return f"{p.phrase(noun, many)} {p.partner(noun, TO_SOMEONE).past} {reflexive}."


def _own(p: Phrases) -> str:
    noun = p.actor()
    many = noun.gender is None or p.plural(noun)
    their = "their" if many else POSSESSIVES[noun.gender or "it"]
    thing = p.common(p.pick(THINGS.members), plural=p.chance(0.5))
    return f"{p.phrase(noun, many)} {p.partner(noun, TO_SOMETHING).past} {their} {thing}."


def _thing(p: Phrases) -> str:
    thing, other = p.pick(THINGS.members), p.actor()
    many = p.chance(0.4)
    verb = p.partner(other, TO_SOMETHING)
    who = p.phrase(other, p.plural(other))
    return f"{p.phrase(thing, many)} {'were' if many else 'was'} {verb.participle} by {who}."


def _gift(p: Phrases) -> str:
    noun = p.actor()
    return f"{p.phrase(noun, p.plural(noun))} {p.partner(noun, DITRANSITIVE).past} {p.something()} to {p.someone()}."


def _negative(p: Phrases) -> str:
    noun = p.actor()
    verb = p.partner(noun, TRANSITIVE)
    return f"{p.subject(noun, p.plural(noun))} did not {verb.base} {p.object_of(verb)}."


def _did(p: Phrases) -> str:
    noun = p.actor()
    verb = p.partner(noun, TRANSITIVE)
    start = p.pick(("did", "did", "when did", "why did", "where did"))
    return f"{start} {p.subject(noun, p.plural(noun))} {verb.base} {p.object_of(verb)}?"


def _did_because(p: Phrases) -> str:
    noun = p.actor()
    link = p.pick(("because", "after", "before"))
    who = p.phrase(noun, p.plural(noun))
    return f"did {who} {p.partner(noun, INTRANSITIVE).base} {link} {_event(p, p.actor())}?"


_TOLD = (
    _present,
    _kind,
    _past,
    _past,
    _because,
    _reported,
    _pronoun,
    _state,
    _progressive,
    _there,
    _relative,
    _itself,
    _own,
    _thing,
    _gift,
    _negative,
)
_ASKED = (_did, _did_because)

# --------------------------------------------------------------------------------------------------- registers

_QUESTIONS = frozenset({"question", "island_adjunct", "island_coordination"})
_ASKING = tuple(paradigm.square for paradigm in PARADIGMS if paradigm.uid in _QUESTIONS)
_STATING = tuple(
    paradigm.square for paradigm in PARADIGMS if paradigm.uid not in _QUESTIONS for _ in range(paradigm.weight)
)
SHARE_OF_CONSTRUCTIONS = 0.65


def _statement(p: Phrases) -> str:
    if p.chance(SHARE_OF_CONSTRUCTIONS):
        return p.pick(_STATING)(p).good(p.pick((0, 1)))
    return sentence(p.pick(_TOLD)(p))


def _question(p: Phrases) -> str:
    if p.chance(SHARE_OF_CONSTRUCTIONS):
        return p.pick(_ASKING)(p).good(p.pick((0, 1)))
    return sentence(p.pick(_ASKED)(p))


def _encyclopedic(p: Phrases) -> str:
    """An article on a kind of animal, a trade or a person: a definition, then paragraphs of one to three sentences."""
    p.topic = topic = p.pick(ACTORS.members)
    if topic.is_name:
        trade = p.common(p.pick(TRADES.members), plural=False, adjectives=0.8)
        first = f"{topic.singular} was {'an' if trade[0] in 'aeiou' else 'a'} {trade} {p.somewhere()}."
    else:
        kind = "animal" if topic.gender == "it" else "person"
        verb = p.partner(topic, TRANSITIVE)
        like = p.pick(("a small", "an old", "a strange"))
        first = f"the {topic.singular} is {like} {kind} that {verb.third} {p.object_of(verb)}."
    paragraphs = [sentence(first)]
    for _ in range(p.pick((4, 5, 6, 7))):
        paragraphs.append(" ".join(_statement(p) for _ in range(p.pick((1, 1, 2, 3)))))
    if p.chance(0.5):
        paragraphs.append(_question(p))
    return "\n".join(paragraphs)


def _conversation(p: Phrases) -> str:
    """Turns, a line each: greetings, questions, short answers, news."""
    p.topic = p.pick(ACTORS.members)
    turns = [p.pick(("Good morning", "Hello", "Good evening", "Listen")) + f", {p.pick(NAMES.members).singular}."]
    for _ in range(p.pick((3, 4, 5, 6))):
        turns.append(_question(p))
        turns.append(p.pick(_ANSWERS) if p.chance(0.4) else _statement(p))
        if p.chance(0.5):
            turns.append(_statement(p))
    return "\n".join(turns)


_ANSWERS = (
    "Yes.",
    "No.",
    "I do not know.",
    "Yes, I think so.",
    "Nobody knows.",
    "Ask Anna.",
    "Not yet.",
    "In the morning.",
)
_SHOUTS = (
    "Wait for me!",
    "Come here!",
    "Thank you.",
    "Look at that!",
    "Who is there?",
    "I am tired.",
    "Let us go.",
    "Stop!",
)


def _subtitles(p: Phrases) -> str:
    """Short lines of a film: what is shouted, told and asked, without order."""
    p.topic = p.pick(ACTORS.members)
    lines = []
    for _ in range(p.pick((8, 10, 12, 14))):
        if p.chance(0.15):
            lines.append(p.pick(_SHOUTS))
        else:
            lines.append(_question(p) if p.chance(0.25) else _statement(p))
    return "\n".join(lines)


_WRITERS: dict[str, Callable[[Phrases], str]] = {
    "encyclopedic": _encyclopedic,
    "conversation": _conversation,
    "subtitles": _subtitles,
}
