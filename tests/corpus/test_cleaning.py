"""Cleaning: each rule takes away what it names, leaves the rest, and does no more when it is applied again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firstwords.corpus.cleaning import RULES, Drop, WithoutLines, find_rules
from firstwords.errors import FirstwordsError

WIKI = (
    "= = = Oak = = =|== History ==|{{cite}}|[[File:Oak.jpg;An [[oak]]]]|[[tree]]|[[a;b]]|[[|''oak''|'''|(; )|( , )|()"
    "|) |( |<br />|<ref name='a'>x</ref>|<!-- x -->|&amp;lt;|&nbsp;|&#65;|[1]|[ [update]]|__TOC__|* an oak|References."
)
BOOKS = (
    "_very_|_|__|[Pg 12]|{12}|[Illustration: an oak]|* * * *|-----|*** START OF THE PROJECT GUTENBERG EBOOK OAK ***"
    "|*** END OF THE PROJECT GUTENBERG EBOOK OAK ***|Produced by K|Project Gutenberg|Transcriber's Note: x"
)
SPEECH = (
    "*MOT:\t|*CHI: |A:\t|A:\t*B:\t|[laughter]|<gap>|&=laughs|&-um|&+fr|(.)|(be)cause|<the the> [//]|[/]|xxx|yyy .|www."
    "|woof@o|0is|+...|+/.|+//?|+<|ice+cream|a_b|no:|+'/.|\x15120_450\x15|„|↑"
)
SUBTITLES = (
    "12|00:01:02,000 --> 00:01:04,500|00:01:02|{250}{310}|{\\an8}|<i>|</i>|♪|♫ la ♫|- |-|–|# la|* LA *|COOPER: |DR. X:"
    "|[DOOR|(sighs)|(she|Subtitles by K|www.a.org|Sync: K|WEBVTT"
)
CHARACTERS = "Ã©|â€œ|Ã¢â‚¬|\x00|\r|\r\n|\x85|\u200b|\ufffd|\xa0|\u3000| |  |\t|.| .|the oak|Oak| ,|!|\n|\n\n"
MARKS = ["|", *(mark for group in (WIKI, BOOKS, SPEECH, SUBTITLES, CHARACTERS) for mark in group.split("|"))]
MESSY_TEXTS = st.lists(st.sampled_from(MARKS) | st.text(max_size=4), max_size=14).map("".join)


def cleaned(rule: str, text: str) -> str | None:
    """What the rule leaves of the text, None if nothing."""
    result = RULES[rule](text)
    if isinstance(result, Drop):
        return None
    return result.text if isinstance(result, WithoutLines) else result


@pytest.mark.parametrize("rule", RULES)
@given(text=MESSY_TEXTS)
@example(text="[[a[[b]]c]] {{d{{e}}f}} &amp;amp;amp; _a__b_ ((;;)) [[[1]]]")
def test_a_rule_applied_twice_does_no_more(rule: str, text: str) -> None:
    once = cleaned(rule, text)
    if once is not None:
        assert cleaned(rule, once) == once


@pytest.mark.parametrize("rule", RULES)
def test_plain_sentences_are_left_alone(rule: str) -> None:
    text = "\n".join(
        [
            "The oak is a tree that lives for hundreds of years, and its wood is hard.",
            "It was 10:30 when she said: “Don't wait for me -- I'll be late; go on without me!”",
            "Nine tenths, 90%, of the café's guests—most of them young—liked it. Well... why?",
            "He's got twenty-five sheep & two dogs, hasn't he? I was told so by Anne.",
        ]
    )
    assert RULES[rule](text) is text


@pytest.mark.parametrize("rule", RULES)
def test_rules_say_in_a_line_what_they_do(rule: str) -> None:
    assert RULES[rule].__doc__ and "\n" not in RULES[rule].__doc__


EXAMPLES = {
    "mojibake": [("The cafÃ© was â€œfullâ€\x9d.", "The café was “full”."), ("Très «déjà»—vu", "Très «déjà»—vu")],
    "control-characters": [("a\x00b\u200b \ufeffc\ufffd\td\r\ne\u2028f", "ab c\td\ne\nf")],
    "whitespace": [(" two  words \n\n\t three\xa0more\u3000words ", "two words\nthree more words"), ("a\nb", "a\nb")],
    "wiki-headings": [("= = = Oak (tree) = = =\nText.\n== Wood ==\n", "Oak (tree)\nText.\nWood\n"), ("a = b", "a = b")],
    "wiki-markup": [
        ("'''Oaks''' are [[tree|trees]] of [[Europe]].[1]<ref>x</ref>", "Oaks are trees of Europe."),
        ("Basel (; , ) is a city (, born [[1501]] ) in {{x{{y}}}} AT&amp;T.", "Basel is a city (born 1501) in  AT&T."),
        ("[[File:Oak.jpg|thumb|An [[oak]]]]Oaks", "Oaks"),
        ("It fell<br />down, in 2008[ [update]].", "It fell down, in 2008."),
        ("* oak\n* elm", "oak\nelm"),
    ],
    "wiki-furniture": [
        ("Oaks.\nReferences.\n|a=b\nOther websites\nhttp://a.org", "Oaks."),
        ("See also Elm.", "See also Elm."),
    ],
    "wiki-stubs": [("Oak\n" + "word " * 24, "Oak\n" + "word " * 24), ("Ham is a village in Kent.", None)],
    "gutenberg-boilerplate": [
        (
            "The Project Gutenberg EBook of Oaks\n*** START OF THIS PROJECT GUTENBERG EBOOK OAKS ***\n\nOnce.\n\n"
            "*** END OF THIS PROJECT GUTENBERG EBOOK OAKS ***\nLicence",
            "Once.",
        ),
        ("A book about Gutenberg.", "A book about Gutenberg."),
    ],
    "gutenberg-notices": [
        ("Produced by Ann Onym\nOnce.\n[Transcriber's Note: x]\nat www.gutenberg.org\n= = = PG26 = = =", "Once."),
        ("Oil is produced by oaks.", "Oil is produced by oaks."),
    ],
    "gutenberg-markup": [
        ("It was _very_ cold.[12] [Illustration: Snow\nand ice]{13}", "It was very cold. "),
        ("Once.\n* * * * *\nThen snake_case_names [Pg iv]", "Once.\n\nThen snake_case_names "),
    ],
    "speaker-codes": [("A:\tHello.\n*MOT:\thello!\n*CHI: no.\nMe: yes", "Hello.\nhello!\nno.\nMe: yes")],
    "spoken-annotations": [("well [laughter] I <gap> saw &=coughs him <unclear/>", "well I saw him ")],
    "childes-tiers": [("@Begin\n*MOT:\thi.\n%mor:\tco|hi\n@Situation:\thome", "*MOT:\thi.")],
    "childes-unintelligible": [
        ("*CHI:\txxx.\n*MOT:\twhat?\nI want yyy .\nsee www.oak.org", "*MOT:\twhat?\nsee www.oak.org")
    ],
    "childes-codes": [
        ("I want <a a> [//] the ball (be)cause (.) it is &-um mine .", "I want the ball because it is um mine."),
        ("the [/] the dog says woof@o and +...", "the dog says woof and..."),
        ("&=laughs .\nwhere's Winnie_the_Pooh [= bear] ?", "\nwhere's Winnie the Pooh?"),
        ("0is he no:w eating ice+cream +/.\n&+fr Frank +//?", "he now eating ice-cream.\nFrank?"),
        ("no \x15120_450\x15", "no "),
        ("we goed [: went] ↑there 0 .", "we goed there."),
    ],
    "subtitle-timing": [
        ("1\n00:00:01,000 --> 00:00:02,500\nHello.\n\n2\n00:00:03,000 --> 00:00:04,000\n1984\n", "Hello.\n\n1984\n"),
        ("WEBVTT\n\n01:02.500 --> 01:03.000 align:start\nHi.\n{100}{160}Bye.", "\nHi.\nBye."),
    ],
    "subtitle-credits": [
        ("Subtitles by K\nwww.oak.org\nSync: L\nThe subtitles are bad.", "The subtitles are bad."),
        ("Downloaded from www.OpenSubtitles.org\nHi.", "Hi."),
    ],
    "subtitle-markup": [
        ("{\\an8}<i>- Run !</i>\n-You?\nCOOPER: [DOOR OPENS] Yes (sighs", "Run!\nYou?\nYes "),
        ("♪ La la ♪\n# La #\n* LA *\nFive - six\n#1 fan", " La la \nLa \nLA \nFive - six\n#1 fan"),
        ("One\\NTwo", "One Two"),
    ],
}


@pytest.mark.parametrize(
    ("rule", "before", "after"), [(rule, *pair) for rule, pairs in EXAMPLES.items() for pair in pairs]
)
def test_examples(rule: str, before: str, after: str | None) -> None:
    assert cleaned(rule, before) == after


def test_every_rule_has_an_example() -> None:
    assert EXAMPLES.keys() == RULES.keys()


def test_dropped_lines_come_back_with_the_reason() -> None:
    result = RULES["subtitle-credits"]("Subtitles by K\nHello.\nSync: L")
    assert result == WithoutLines("Hello.", "credits of the subtitles", ("Subtitles by K", "Sync: L"))


def test_cut_boilerplate_comes_back_with_the_reason() -> None:
    start, end = (f"*** {border} OF THE PROJECT GUTENBERG EBOOK X ***" for border in ("START", "END"))
    text = f"Header\n{start}\nOnce.\n{end}\nEnd"
    result = RULES["gutenberg-boilerplate"](text)
    assert isinstance(result, WithoutLines)
    assert [piece.split("\n")[0] for piece in result.lines] == [
        "Header",
        "*** END OF THE PROJECT GUTENBERG EBOOK X ***",
    ]


def test_dropped_documents_have_a_reason() -> None:
    assert RULES["wiki-stubs"]("Ham is a village.") == Drop("a stub of fewer than 25 words")


def test_an_unknown_rule_is_named_with_the_nearest_one() -> None:
    with pytest.raises(FirstwordsError, match="no cleaning rule 'wiki-heading'") as caught:
        find_rules(["whitespace", "wiki-heading"], "simple_wiki")
    assert caught.value.where == "corpus.sources.simple_wiki.rules"
    assert caught.value.do == "did you mean 'wiki-headings'?"


def test_a_rule_named_twice_is_refused() -> None:
    with pytest.raises(FirstwordsError, match="named twice"):
        find_rules(["whitespace", "whitespace"], "a")


def test_clean_text_does_not_load_ftfy() -> None:
    program = (
        "import sys; from firstwords.corpus.cleaning import RULES; RULES['mojibake']('Zoë left – a café'); "
        "assert 'ftfy' not in sys.modules; print(RULES['mojibake']('ZoÃ«'))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout == "Zoë\n"


USUAL_RULES = {
    "simple_wiki": ("mojibake", "control-characters", "wiki-headings", "wiki-markup", "wiki-furniture", "whitespace"),
    "bnc_spoken": ("mojibake", "control-characters", "speaker-codes", "spoken-annotations", "whitespace"),
    "open_subtitles": ("mojibake", "control-characters", "subtitle-timing", "subtitle-credits", "subtitle-markup"),
    "childes": ("childes-tiers", "speaker-codes", "childes-unintelligible", "childes-codes", "whitespace"),
    "gutenberg": ("mojibake", "control-characters", "gutenberg-notices", "gutenberg-markup", "whitespace"),
    "switchboard": ("speaker-codes", "spoken-annotations", "whitespace"),
}


@pytest.mark.parametrize("name", USUAL_RULES)
def test_real_text_keeps_nearly_all_its_words(shared_data: Path, name: str) -> None:
    with (shared_data / "text" / f"{name}.train").open(encoding="utf-8") as file:
        text = file.read(300_000)
    words = len(text.split()) - text.count(":\t")  # a speaker's code is no word
    for rule in USUAL_RULES[name]:
        once = cleaned(rule, text)
        assert once is not None and cleaned(rule, once) == once
        text = once
    assert len(text.split()) >= 0.99 * words
