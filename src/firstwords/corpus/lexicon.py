"""The words of the built-in grammar, with their forms. ARTIFICIAL: chosen for this project, counted from no corpus.

Every word has a colour, its place in its table modulo six. A combination of two words (a subject and its verb, an
adjective and its noun) whose colours add up to a multiple of six is *held out*: the corpus never uses it, and the
minimal pairs use no other. So every word is seen in training, in five sixths of its combinations, and no sentence of
the test can have been learnt by heart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar, final

COLOURS = 6
VOWELS = frozenset("aeiouAEIOU")

Gender = Literal["he", "she", "it"]


class Coloured(Protocol):
    """A word that combines with other words by colour."""

    @property
    def colour(self) -> int:
        """From 0 to COLOURS - 1."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Noun:
    """A noun or a name. `gender` is the pronoun of one of them; None where a person may be either."""

    singular: str
    plural: str
    gender: Gender | None
    animate: bool
    is_name: bool
    colour: int


@final
@dataclass(frozen=True, slots=True)
class Verb:
    """A verb with all its forms: see, sees, saw, seen, seeing. `animate_object`: it is done to someone."""

    base: str
    third: str
    past: str
    participle: str
    gerund: str
    animate_object: bool
    colour: int


@final
@dataclass(frozen=True, slots=True)
class Adjective:
    """An adjective."""

    text: str
    colour: int


W = TypeVar("W", bound=Coloured)


@final
class WordClass(Generic[W]):
    """Words that may take one another's place, sorted by the words they combine with."""

    def __init__(self, *members: Iterable[W]) -> None:
        self.members: tuple[W, ...] = tuple(word for words in members for word in words)
        self._usual = tuple(self._select(colour, held_out=False) for colour in range(COLOURS))
        self._held_out = tuple(self._select(colour, held_out=True) for colour in range(COLOURS))

    def _select(self, colour: int, *, held_out: bool) -> tuple[W, ...]:
        return tuple(word for word in self.members if ((word.colour + colour) % COLOURS == 0) is held_out)

    def partners(self, word: Coloured, *, held_out: bool) -> tuple[W, ...]:
        """The members that combine with `word` in the corpus, or (held_out) in the minimal pairs alone."""
        return (self._held_out if held_out else self._usual)[word.colour]


def is_held_out(one: Coloured, other: Coloured) -> bool:
    """Whether the combination of two words is kept for the minimal pairs."""
    return (one.colour + other.colour) % COLOURS == 0


# ---------------------------------------------------------------------------------------------------- inflection


def _doubles_last_letter(verb: str) -> bool:
    """One short syllable ending in vowel and consonant: hug, hugged. (No longer verb of the lexicon doubles.)"""
    vowels = sum(letter in VOWELS for letter in verb)
    return vowels == 1 and verb[-1] not in "wxy" and verb[-1] not in VOWELS and verb[-2] in VOWELS


def with_s(word: str) -> str:
    """fox -> foxes, tomato -> tomatoes, baby -> babies, key -> keys: plurals of nouns and third persons of verbs."""
    if word.endswith(("s", "x", "ch", "sh", "to")):
        return word + "es"
    if word.endswith("y") and word[-2] not in VOWELS:
        return word[:-1] + "ies"
    return word + "s"


def with_ed(verb: str) -> str:
    """praise -> praised, carry -> carried, hug -> hugged."""
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in VOWELS:
        return verb[:-1] + "ied"
    return verb + (verb[-1] if _doubles_last_letter(verb) else "") + "ed"


def with_ing(verb: str) -> str:
    """praise -> praising, hug -> hugging."""
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    return verb + (verb[-1] if _doubles_last_letter(verb) else "") + "ing"


IRREGULAR_PLURALS = {
    "man": "men",
    "woman": "women",
    "gentleman": "gentlemen",
    "child": "children",
    "thief": "thieves",
    "wife": "wives",
    "wolf": "wolves",
    "mouse": "mice",
    "goose": "geese",
    "calf": "calves",
    "ox": "oxen",
    "knife": "knives",
    "leaf": "leaves",
    "loaf": "loaves",
    "shelf": "shelves",
    "scarf": "scarves",
}


def _nouns(
    words: str, *, gender: Gender | None = "it", animate: bool = False, is_name: bool = False
) -> tuple[Noun, ...]:
    return tuple(
        Noun(word, IRREGULAR_PLURALS.get(word, with_s(word)), gender, animate, is_name, place % COLOURS)
        for place, word in enumerate(words.split())
    )


def _verbs(words: str, *, animate_object: bool = False) -> tuple[Verb, ...]:
    """Each word is a base form, or `base/past` or `base/past/participle` where these are irregular."""
    verbs = []
    for place, word in enumerate(words.split()):
        base, *irregular = word.split("/")
        past = irregular[0] if irregular else with_ed(base)
        participle = irregular[-1] if irregular else past
        verbs.append(Verb(base, with_s(base), past, participle, with_ing(base), animate_object, colour=place % COLOURS))
    return tuple(verbs)


def _adjectives(words: str) -> tuple[Adjective, ...]:
    return tuple(Adjective(word, place % COLOURS) for place, word in enumerate(words.split()))


# --------------------------------------------------------------------------------------------------------- nouns

_MEN = _nouns(
    "king uncle father brother son husband man boy prince lord monk wizard nephew gentleman groom duke",
    gender="he",
    animate=True,
)
_WOMEN = _nouns(
    "queen aunt mother sister daughter wife woman girl princess lady nun witch niece maid bride duchess",
    gender="she",
    animate=True,
)
_EITHER = _nouns(
    "teacher doctor farmer baker singer pilot student child thief painter driver lawyer guest neighbor judge sailor "
    "soldier writer dancer nurse hunter artist captain poet tailor tourist",
    gender=None,
    animate=True,
)
_ANIMALS = _nouns(
    "wolf fox mouse goose dog cat horse cow calf pig goat duck bear lion tiger rabbit monkey donkey eagle owl ox "
    "parrot turtle frog",
    animate=True,
)
_THINGS = _nouns(
    "key book lamp box knife leaf loaf shelf table chair cup bottle letter picture coin ring hat coat basket bag bell "
    "clock mirror candle rope ladder drum violin map stone shell blanket pillow hammer scarf brush wheel bucket kite "
    "doll potato tomato apple egg cake"
)
_PLACES = _nouns(
    "river forest village house garden bridge market school church castle harbor mountain lake field road tower barn "
    "station island beach park mill"
)
_MALE_NAMES = _nouns(
    "Tom Peter David Carl Henry Oscar Victor Martin Leo Felix Hugo Simon Paul Eric Adam Walter",
    gender="he",
    animate=True,
    is_name=True,
)
_FEMALE_NAMES = _nouns(
    "Anna Mary Julia Clara Emma Nina Alice Laura Helen Rosa Ida Sara Ellen Martha Vera Lucy",
    gender="she",
    animate=True,
    is_name=True,
)

MEN, WOMEN = WordClass(_MEN), WordClass(_WOMEN)
MALE_NAMES, FEMALE_NAMES = WordClass(_MALE_NAMES), WordClass(_FEMALE_NAMES)
NAMES = WordClass(_MALE_NAMES, _FEMALE_NAMES)
TRADES = WordClass(_EITHER)
ANIMALS, THINGS, PLACES = WordClass(_ANIMALS), WordClass(_THINGS), WordClass(_PLACES)
WITH_PRONOUN = WordClass(_MEN, _WOMEN, _ANIMALS)
"""Common nouns whose reflexive is known: himself, herself, itself."""
ANIMATE = WordClass(_MEN, _WOMEN, _EITHER, _ANIMALS)
ACTORS = WordClass(_MEN, _WOMEN, _EITHER, _ANIMALS, _MALE_NAMES, _FEMALE_NAMES)
_OBJECTS = (*_MEN, *_WOMEN, *_EITHER, *_ANIMALS, *_THINGS)
REGULAR_OBJECTS = WordClass(noun for noun in _OBJECTS if noun.singular not in IRREGULAR_PLURALS)
IRREGULAR_OBJECTS = WordClass(noun for noun in _OBJECTS if noun.singular in IRREGULAR_PLURALS)

# --------------------------------------------------------------------------------------------------------- verbs
# Only verbs that every speaker keeps on their side: those of the first table never take an object, those of the next
# two never go without one, and DITRANSITIVE never leaves the gift out.

INTRANSITIVE = WordClass(
    _verbs(
        "sleep/slept arrive laugh smile fall/fell/fallen disappear wait sneeze faint vanish shiver snore yawn cough "
        "kneel/knelt hesitate complain stumble tremble blush giggle pray grin weep/wept"
    )
)
_TO_SOMEONE = _verbs(
    "admire blame praise thank greet chase accompany describe protect befriend amuse surprise annoy ignore hug "
    "frighten astonish betray comfort mock respect rescue examine injure",
    animate_object=True,
)
_TO_SOMETHING = _verbs(
    "find/found make/made carry keep/kept take/took/taken bring/brought wear/wore/worn repair need use fix discover "
    "destroy catch/caught receive collect polish own invent fetch grab obtain damage purchase"
)
TO_SOMEONE, TO_SOMETHING = WordClass(_TO_SOMEONE), WordClass(_TO_SOMETHING)
TRANSITIVE = WordClass(_TO_SOMEONE, _TO_SOMETHING)
DITRANSITIVE = WordClass(_verbs("give/gave/given hand lend/lent offer grant award loan"))
CLAUSAL = WordClass(
    _verbs("know/knew/known remember notice recall learn hear/heard guess explain reveal report announce mention")
)
"""Verbs with a clause (`that ...`, `what ...`) or a thing as object."""

# ---------------------------------------------------------------------------------------------------- adjectives

OF_ANIMATE = WordClass(
    _adjectives(
        "old young small big tall quiet gentle clever brave kind proud famous strange lazy grey brown wild shy "
        "friendly curious careful noisy strong weak"
    )
)
OF_THINGS = WordClass(
    _adjectives(
        "old new small big heavy broken golden wooden red blue green yellow white black round dirty clean shiny cheap "
        "rare plain empty ancient lovely"
    )
)
STATES = WordClass(
    _adjectives(
        "tired hungry happy sad angry ill busy ready afraid alone awake calm nervous thirsty bored safe late lonely"
    )
)
