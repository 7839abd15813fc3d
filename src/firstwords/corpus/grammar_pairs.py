"""The constructions of the built-in grammar, each a square of two contexts and two forms. ARTIFICIAL.

The first form is right in the first context and the second form in the second; crosswise both are wrong:

                           sleeps                                 sleep
    one wolf      The wolf near the dogs sleeps.       *The wolf near the dogs sleep.
    many wolves  *The wolves near the dogs sleeps.      The wolves near the dogs sleep.

The corpus takes the good sentences of such squares. A test takes both rows of a square as two minimal pairs (twins): as
each form is right once and wrong once, whoever looks at the words alone, at their frequency, at the length or at a coin
is right in one of the twins and wrong in the other, and scores 50%.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from firstwords.corpus.grammar_phrases import (
    BESIDE,
    HABITS,
    LICENSING_MANY,
    LICENSING_ONE,
    PAST_TIMES,
    PLAIN_MANY,
    PLAIN_ONE,
    POSSESSIVES,
    REFLEXIVES,
    Phrases,
    sentence,
)
from firstwords.corpus.lexicon import (
    ANIMATE,
    DITRANSITIVE,
    FEMALE_NAMES,
    INTRANSITIVE,
    IRREGULAR_OBJECTS,
    MALE_NAMES,
    MEN,
    NAMES,
    REGULAR_OBJECTS,
    THINGS,
    TO_SOMEONE,
    TO_SOMETHING,
    TRANSITIVE,
    WITH_PRONOUN,
    WOMEN,
    Noun,
    Verb,
    WordClass,
)


@final
@dataclass(frozen=True, slots=True)
class Square:
    """Two contexts and two forms of one sentence; `write` puts a form into a context."""

    write: Callable[[Any, Any], str]
    contexts: tuple[Any, Any]
    forms: tuple[Any, Any]

    def good(self, row: int) -> str:
        """The grammatical sentence with context number `row` (0 or 1)."""
        return sentence(self.write(self.contexts[row], self.forms[row]))

    def bad(self, row: int) -> str:
        """The ungrammatical sentence with the same context: it has the other form."""
        return sentence(self.write(self.contexts[row], self.forms[1 - row]))


@final
@dataclass(frozen=True, slots=True)
class Paradigm:
    """One construction and the phenomenon that it belongs to."""

    uid: str
    phenomenon: str
    square: Callable[[Phrases], Square]
    weight: int


def _at_a_distance(heads: tuple[str, str], between: str, forms: tuple[str, str], end: str = "") -> Square:
    """Each form goes with its head, whatever stands between them."""
    return Square(lambda head, form: f"the {head} {between} {form}{end}.", heads, forms)


# ------------------------------------------------------------------------------------- subject-verb agreement


def agreement_across_phrase(p: Phrases) -> Square:
    """The wolf near the dogs sleeps. / The wolves near the dogs sleep."""
    noun = p.actor(ANIMATE)
    verb = p.partner(noun, INTRANSITIVE)
    return _at_a_distance((noun.singular, noun.plural), p.beside(), (verb.third, verb.base), end=f" {p.pick(HABITS)}")


def agreement_across_clause(p: Phrases) -> Square:
    """The wolf that the dogs chase sleeps. / The wolves that the dogs chase sleep."""
    noun = p.actor(ANIMATE)
    other = p.another(noun, ANIMATE)
    verb, inner = p.partner(noun, INTRANSITIVE), p.partner(other, TO_SOMEONE)
    many = p.plural(other)
    clause = f"that {p.phrase(other, many)} {inner.base if many else inner.third}"
    return _at_a_distance((noun.singular, noun.plural), clause, (verb.third, verb.base), end=f" {p.pick(HABITS)}")


# --------------------------------------------------------------------------------------------------- anaphora


def anaphor_gender(p: Phrases) -> Square:
    """The uncle near the girl praised himself. / The aunt near the girl praised herself."""
    he = p.actor(MEN)
    verb = p.partner(he, TO_SOMEONE)
    she = p.partner(verb, WOMEN)
    return _at_a_distance(
        (he.singular, she.singular), f"{p.beside()} {verb.past}", ("himself", "herself"), f" {p.pick(PAST_TIMES)}"
    )


def anaphor_number(p: Phrases) -> Square:
    """The wolf near the dogs praised itself. / The wolves near the dogs praised themselves."""
    noun = p.pick(WITH_PRONOUN.members)
    verb = p.partner(noun, TO_SOMEONE)
    reflexives = (REFLEXIVES[noun.gender or "it"], "themselves")
    return _at_a_distance((noun.singular, noun.plural), f"{p.beside()} {verb.past}", reflexives)


def anaphor_in_clause(p: Phrases) -> Square:
    """The girl knew that Tom praised himself. / The girl knew that Anna praised herself."""
    he = p.pick(MALE_NAMES.members)
    verb = p.partner(he, TO_SOMEONE)
    she = p.partner(verb, FEMALE_NAMES)
    outer = p.actor()
    start = f"{p.phrase(outer, p.plural(outer))} {p.clausal(outer).past} that"

    def write(name: str, form: str) -> str:
        return f"{start} {name} {verb.past} {form}."

    return Square(write, (he.singular, she.singular), ("himself", "herself"))


# ----------------------------------------------------------------------------------------- argument structure


def transitivity(p: Phrases) -> Square:
    """The girl hugged the dog. / The girl slept near the dog."""
    noun = p.actor()
    taking, alone = p.partner(noun, TRANSITIVE), p.partner(noun, INTRANSITIVE)
    subject, other = p.subject(noun, p.plural(noun)), p.object_of(taking)

    def write(link: str, form: str) -> str:
        return f"{subject} {form}{link} {other}."

    return Square(write, ("", f" {p.pick(BESIDE)}"), (taking.past, alone.past))


def passive(p: Phrases) -> Square:
    """The dog was hugged by the girl. / The dog had slept near the girl."""
    noun = p.actor()
    taking, alone = p.partner(noun, TO_SOMEONE), p.partner(noun, INTRANSITIVE)
    many = p.plural(noun)
    subject, other = p.phrase(noun, many), p.someone()
    was = "were" if many else "was"

    def write(words: tuple[str, str], form: str) -> str:
        return f"{subject} {words[0]} {form} {words[1]} {other}."

    return Square(write, ((was, "by"), ("had", p.pick(BESIDE))), (taking.participle, alone.participle))


def ditransitive(p: Phrases) -> Square:
    """The girl gave the boy a book. / The girl hugged the boy near the book."""
    noun = p.actor()
    giving, taking = p.partner(noun, DITRANSITIVE), p.partner(noun, TO_SOMEONE)
    subject, other, thing = p.phrase(noun, p.plural(noun)), p.someone(), p.something()

    def write(link: str, form: str) -> str:
        return f"{subject} {form} {other}{link} {thing}."

    return Square(write, ("", f" {p.pick(BESIDE)}"), (giving.past, taking.past))


# ------------------------------------------------------------------------------------ determiner-noun agreement


def _determiner(p: Phrases, nouns: WordClass[Noun]) -> Square:
    noun, subject = p.pick(nouns.members), p.actor()
    verb = p.partner(subject, TO_SOMEONE if noun.animate else TO_SOMETHING)
    start = f"{p.phrase(subject, p.plural(subject))} {verb.past}"
    adjective = p.adjective(noun)

    def write(determiner: str, form: str) -> str:
        return f"{start} {determiner} {adjective} {form}."

    return Square(write, p.pick((("this", "these"), ("that", "those"))), (noun.singular, noun.plural))


def determiner_regular(p: Phrases) -> Square:
    """Anna praised this old king. / Anna praised these old kings."""
    return _determiner(p, REGULAR_OBJECTS)


def determiner_irregular(p: Phrases) -> Square:
    """Anna praised this old goose. / Anna praised these old geese."""
    return _determiner(p, IRREGULAR_OBJECTS)


# ---------------------------------------------------------------------------------------- negative polarity items


def _determiners(p: Phrases, plural: bool) -> tuple[str, str]:
    """A determiner that licenses `ever` and `either`, and one that does not."""
    if plural:
        return p.pick(LICENSING_MANY), p.pick(PLAIN_MANY)
    return p.pick(LICENSING_ONE), p.pick(PLAIN_ONE)


def _licensed(p: Phrases, noun: Noun, plural: bool, subjects: tuple[str, str]) -> Square:
    """Two subjects of one verb: the first licenses `ever` or `either`, the second only `already` or `too`."""
    verb, aux = p.partner(noun, INTRANSITIVE), p.pick(("have" if plural else "has", "had"))
    if p.chance(0.5):
        items = ("ever", "already")
        return Square(lambda subject, item: f"{subject} {aux} {item} {verb.participle}.", subjects, items)
    other = p.another(noun)
    many = p.plural(other)
    first, too = f"{p.phrase(other, many)} {'have' if many else 'has'}", p.partner(other, INTRANSITIVE).participle
    contexts = (f"{first} not {too}, and {subjects[0]}", f"{first} {too}, and {subjects[1]}")
    return Square(lambda clauses, item: f"{clauses} {aux} {verb.participle}{item}.", contexts, (" either", ", too"))


def polarity_licensor(p: Phrases) -> Square:
    """No king near the dogs has ever slept. / Every king near the dogs has already slept."""
    noun = p.actor(ANIMATE)
    many = p.plural(noun)
    rest = f"{p.common(noun, many)} {p.beside()}"
    licensing, plain = _determiners(p, many)
    return _licensed(p, noun, many, (f"{licensing} {rest}", f"{plain} {rest}"))


def polarity_scope(p: Phrases) -> Square:
    """No king that the dog chased has ever slept. / The king that no dog chased has already slept."""
    noun = p.actor(ANIMATE)
    other = p.another(noun, ANIMATE)
    many = p.plural(noun)
    head, clause = p.common(noun, many), f"{p.common(other, many)} {p.partner(other, TO_SOMEONE).past}"
    licensing, plain = _determiners(p, many)
    subjects = (f"{licensing} {head} that {plain} {clause}", f"{plain} {head} that {licensing} {clause}")
    return _licensed(p, noun, many, subjects)


def _deny(p: Phrases, verb: Verb) -> tuple[str, str]:
    """`did not sleep` and `slept`; or another auxiliary, or `never`."""
    aux = p.pick(("did", "could", "would", "will", "must", "never"))
    if aux == "never":
        return f"never {verb.past}", verb.past
    return f"{aux} not {verb.base}", verb.past if aux == "did" else f"{aux} {verb.base}"


def polarity_either(p: Phrases) -> Square:
    """Anna did not sleep, and Tom did not laugh either. / Anna slept, and Tom laughed, too."""
    one = p.actor()
    other = p.another(one)
    first, second = p.phrase(one, p.plural(one)), p.subject(other, p.plural(other))
    denied, said = _deny(p, p.partner(one, INTRANSITIVE))
    denied_too, said_too = _deny(p, p.partner(other, INTRANSITIVE))

    def write(verb_phrases: tuple[str, str], form: str) -> str:
        return f"{first} {verb_phrases[0]}, and {second} {verb_phrases[1]}{form}."

    return Square(write, ((denied, denied_too), (said, said_too)), (" either", ", too"))


# ------------------------------------------------------------------------------------------------- filler and gap


def _asked_for(verb: Verb) -> str:
    return "who" if verb.animate_object else "what"


def embedded_question(p: Phrases) -> Square:
    """The king knew what Anna found. / The king knew that Anna found the key."""
    outer = p.actor()
    inner = p.another(outer)
    taking = p.partner(inner, TRANSITIVE)
    start = f"{p.phrase(outer, p.plural(outer))} {p.clausal(outer).past}"
    clause = f"{p.subject(inner, p.plural(inner))} {taking.past}"

    def write(rest: str, form: str) -> str:
        return f"{start} {form} {clause}{rest}."

    return Square(write, ("", f" {p.object_of(taking)}"), (_asked_for(taking), "that"))


def question(p: Phrases) -> Square:
    """What did the girl near the dogs find? / When did the girl near the dogs sleep?"""
    noun = p.actor()
    taking, alone = p.partner(noun, TRANSITIVE), p.partner(noun, INTRANSITIVE)
    subject = p.subject(noun, p.plural(noun))

    def write(filler: str, form: str) -> str:
        return f"{filler} did {subject} {form}?"

    return Square(write, (_asked_for(taking), p.pick(("when", "why", "where"))), (taking.base, alone.base))


# ------------------------------------------------------------------------------------------------------- islands


def island_adjunct(p: Phrases) -> Square:
    """What did the king say that Anna found? / What did the king say because Anna slept?"""
    outer = p.actor()
    inner = p.another(outer)
    taking, alone = p.partner(inner, TO_SOMETHING), p.partner(inner, INTRANSITIVE)
    start = f"what did {p.phrase(outer, p.plural(outer))} {p.clausal(outer).base}"
    subject = p.subject(inner, p.plural(inner))

    def write(link: str, form: str) -> str:
        return f"{start} {link} {subject} {form}?"

    return Square(write, ("that", p.pick(("because", "after", "before"))), (taking.past, alone.past))


def island_coordination(p: Phrases) -> Square:
    """What did the king find and Anna carry? / When did the king sleep and Anna laugh?"""
    one = p.actor()
    other = p.another(one)
    verbs: WordClass[Verb] = p.pick((TO_SOMEONE, TO_SOMETHING))
    taking, alone = p.partner(one, verbs), p.partner(one, INTRANSITIVE)
    first, second = p.phrase(one, p.plural(one)), p.phrase(other, p.plural(other))
    fillers = (_asked_for(taking), p.pick(("when", "why", "where")))

    def write(words: tuple[str, str], form: str) -> str:
        return f"{words[0]} did {first} {words[1]} and {second} {form}?"

    return Square(
        write,
        ((fillers[0], taking.base), (fillers[1], alone.base)),
        (p.partner(other, verbs).base, p.partner(other, INTRANSITIVE).base),
    )


# ------------------------------------------------------------------------------------------------------ ellipsis


def ellipsis_of_verb_phrase(p: Phrases) -> Square:
    """Tom slept, and the king did too. / Tom was tired, and the king was too."""
    one = p.actor()
    other = p.another(one)
    many, many_others = p.plural(one), p.plural(other)
    first, second = p.phrase(one, many), p.subject(other, many_others)
    aux, verb = p.pick(("did", "could", "would", "will", "must")), p.partner(one, INTRANSITIVE)
    action = verb.past if aux == "did" else f"{aux} {verb.base}"
    state = f"{'were' if many else 'was'} {p.state(one)}"

    def write(predicate: str, form: str) -> str:
        return f"{first} {predicate}, and {second} {form} too."

    return Square(write, (action, state), (aux, "were" if many_others else "was"))


def ellipsis_of_noun(p: Phrases) -> Square:
    """Tom found his key, and the queen found hers. / Tom found his key, and the queen found her book."""
    one, other = p.pick(NAMES.members), p.pick(WOMEN.members)
    many = p.chance(0.5)
    verb = p.partner(one, TO_SOMETHING)
    thing, another = p.pick(THINGS.members), p.pick(THINGS.members)
    his = POSSESSIVES[one.gender or "it"]
    start = f"{one.singular} {verb.past} {his} {thing.plural}, and {p.phrase(other, many)} {verb.past}"

    def write(rest: str, form: str) -> str:
        return f"{start} {form}{rest}."

    forms = p.pick((("none", "no"), ("theirs", "their") if many else ("hers", "her")))
    return Square(write, ("", f" {another.plural}"), forms)


_PHENOMENA: dict[str, dict[Callable[[Phrases], Square], int]] = {
    "subject_verb_agreement": {agreement_across_phrase: 2, agreement_across_clause: 2},
    "anaphor_agreement": {anaphor_gender: 6, anaphor_number: 3, anaphor_in_clause: 5},
    "argument_structure": {transitivity: 1, passive: 1, ditransitive: 3},
    "determiner_noun_agreement": {determiner_regular: 2, determiner_irregular: 2},
    "npi_licensing": {polarity_licensor: 4, polarity_scope: 4, polarity_either: 2},
    "filler_gap_dependency": {embedded_question: 2, question: 2},
    "island_effects": {island_adjunct: 2, island_coordination: 2},
    "ellipsis": {ellipsis_of_verb_phrase: 2, ellipsis_of_noun: 1},
}
"""The weights say how often the corpus has a construction: more often where it is hard to learn."""

PARADIGMS = tuple(
    Paradigm(square.__name__, phenomenon, square, weight)
    for phenomenon, squares in _PHENOMENA.items()
    for square, weight in squares.items()
)
