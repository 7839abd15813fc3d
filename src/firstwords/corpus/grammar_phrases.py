"""Phrases of the built-in grammar, of which the sentences of corpus and minimal pairs are made. ARTIFICIAL."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar, final

from firstwords.corpus.lexicon import (
    ACTORS,
    ANIMATE,
    CLAUSAL,
    OF_ANIMATE,
    OF_THINGS,
    PLACES,
    STATES,
    THINGS,
    VOWELS,
    Coloured,
    Noun,
    Verb,
    WordClass,
)

T = TypeVar("T")
W = TypeVar("W", bound=Coloured)

# A word that is listed more often is drawn more often.
OF_ONE = ("the", "the", "the", "the", "a", "a", "this", "that", "every")
OF_MANY = ("the", "the", "the", "the", "some", "many", "these", "those", "two", "three", "all")

# Determiners of a subject that licenses `ever` and `either`, and of one that does not. There are many of each, since a
# fresh model has a whim for any two words side by side, and only over many pairs of words do its whims cancel out.
LICENSING_ONE = ("no", "neither", "not one")
LICENSING_MANY = ("no", "few", "very few", "hardly any", "none of the")
PLAIN_ONE = ("the", "every", "each", "this", "that", "one")
PLAIN_MANY = ("the", "some", "most", "these", "those", "many", "two", "all", "most of the", "some of the")

BESIDE = ("near", "behind", "beside")
HABITS = ("every day", "at night", "in the morning", "in winter", "on Sundays", "again")
PAST_TIMES = ("yesterday", "last night", "in the morning", "again", "this morning", "on Sunday")
POSSESSIVES = {"he": "his", "she": "her", "it": "its"}
REFLEXIVES = {"he": "himself", "she": "herself", "it": "itself"}


def sentence(text: str) -> str:
    """With a capital letter."""
    return text[0].upper() + text[1:]


@final
class Phrases:
    """Draws words and builds phrases of them, all by one random stream.

    held_out: draw only the combinations that the corpus never has, instead of only those that it may have.
    topic: the noun that the document at hand is about; it is drawn as a subject more often than chance.
    """

    def __init__(self, rng: random.Random, *, held_out: bool = False) -> None:
        self._uniform = rng.random
        self.held_out = held_out
        self.topic: Noun | None = None

    # ------------------------------------------------------------------------------------------------------ words

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, each equally often."""
        return options[int(self._uniform() * len(options))]

    def chance(self, probability: float) -> bool:
        """True as often as `probability` says."""
        return self._uniform() < probability

    def partner(self, of: Coloured, among: WordClass[W], *, but: Noun | None = None) -> W:
        """A word that combines with another one: a verb with its subject, an adjective with its noun."""
        chosen = self.pick(among.partners(of, held_out=self.held_out))
        while chosen is but:
            chosen = self.pick(among.partners(of, held_out=self.held_out))
        return chosen

    def another(self, than: Noun, among: WordClass[Noun] = ACTORS) -> Noun:
        """Any of them, but not this one."""
        chosen = than
        while chosen is than:
            chosen = self.pick(among.members)
        return chosen

    def actor(self, among: WordClass[Noun] = ACTORS) -> Noun:
        """Who does it: often the topic of the document, where it is one of those asked for."""
        topic = self.topic
        if (
            topic is not None
            and self._uniform() < 0.4
            and (among is ACTORS or (among is ANIMATE and not topic.is_name))
        ):
            return topic
        return self.pick(among.members)

    # --------------------------------------------------------------------------------------------- noun phrases

    def adjective(self, noun: Noun) -> str:
        """One that goes before the noun."""
        return self.partner(noun, OF_ANIMATE if noun.animate else OF_THINGS).text

    def common(self, noun: Noun, plural: bool, adjectives: float = 0.25) -> str:
        """A noun, now and then with an adjective: `wolf`, `old wolves`."""
        word = noun.plural if plural else noun.singular
        if self._uniform() < adjectives:
            return f"{self.adjective(noun)} {word}"
        return word

    def phrase(self, noun: Noun, plural: bool = False) -> str:
        """A name as it is, any other noun with a determiner that agrees: `Anna`, `every wolf`, `these old wolves`."""
        if noun.is_name:
            return noun.singular
        rest = self.common(noun, plural)
        determiner = self.pick(OF_MANY if plural else OF_ONE)
        if determiner == "a" and rest[0] in VOWELS:
            determiner = "an"
        return f"{determiner} {rest}"

    def subject(self, noun: Noun, plural: bool = False) -> str:
        """A noun phrase that is at times followed by another one, which a verb must not agree with."""
        phrase = self.phrase(noun, plural)
        if noun.is_name or self._uniform() < 0.75:
            return phrase
        return f"{phrase} {self.beside()}"

    def someone(self) -> str:
        """Any person or animal, one or many: a distractor, an object, the one after `by`."""
        noun = self.pick(ACTORS.members)
        return self.phrase(noun, self.plural(noun))

    def beside(self) -> str:
        """`near the wolves`, `behind this king`: says of someone where they are."""
        noun = self.pick(ANIMATE.members)
        return f"{self.pick(BESIDE)} {self.phrase(noun, self.plural(noun))}"

    def something(self) -> str:
        """Any thing, one or many."""
        return self.phrase(self.pick(THINGS.members), self._uniform() < 0.4)

    def somewhere(self) -> str:
        """`in the forest`, `near a small lake`."""
        place = self.pick(PLACES.members)
        return f"{self.pick(('near', 'in', 'behind'))} the {self.common(place, plural=False, adjectives=0.1)}"

    def plural(self, noun: Noun) -> bool:
        """Whether to speak of many of them; there is only one of each name."""
        return not noun.is_name and self._uniform() < 0.5

    # --------------------------------------------------------------------------------------------- verbs and clauses

    def object_of(self, verb: Verb) -> str:
        """Someone or something, as the verb asks for."""
        return self.someone() if verb.animate_object else self.something()

    def clausal(self, subject: Noun) -> Verb:
        """A verb with a clause for its object: know, remember."""
        return self.partner(subject, CLAUSAL)

    def state(self, subject: Noun) -> str:
        """`tired`, `hungry`."""
        return self.partner(subject, STATES).text
