"""From the recipe's sources to documents: found wherever they are, cut as said, refused with file and line."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstwords.corpus import reading
from firstwords.corpus.sources import Document, ResolvedSource, read_chunks, read_documents, resolve_sources
from firstwords.data.download import Patience
from firstwords.errors import FirstwordsError
from firstwords.settings import CorpusSettings, SourceSettings

QUICK = Patience(tries=2, delay_seconds=0.01, silence_seconds=5.0)


def resolve(name: str = "x", data: tuple[Path, ...] = (), cache: Path = Path("no-cache"), **setting) -> ResolvedSource:
    """One source of a recipe, offline."""
    corpus = CorpusSettings(sources={name: SourceSettings(**setting)}, budget="1MB", dev_budget="1kB")
    return resolve_sources(corpus, data, cache, offline=True)[name]


def texts(source: ResolvedSource) -> list[str]:
    return [document.text for document in read_documents(source, seed=1)]


def of_bytes(folder: Path, content: bytes, name: str = "x.txt", **setting) -> ResolvedSource:
    (folder / name).write_bytes(content)
    return resolve(at=str(folder / name), **setting)


# Where sources are found


def test_a_source_is_found_by_its_name_in_the_first_data_folder_that_has_it(tmp_path: Path) -> None:
    for folder, name in (("a", "other.txt"), ("b", "sub/x.txt.gz"), ("c", "x.train")):
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress(b"from b") if name.endswith(".gz") else b"from " + folder.encode())
    source = resolve(data=(tmp_path / "a", tmp_path / "b", tmp_path / "c"))
    assert texts(source) == ["from b"]
    assert source.origin == str(tmp_path / "b" / "sub" / "x.txt.gz")
    (file,) = source.files
    assert file.sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()
    assert file.size_bytes == file.path.stat().st_size


@pytest.mark.parametrize("name", ["x.train", "x.train.txt", "x.txt", "x.jsonl", "x.jsonl.gz", "x.zip", "x/1.txt"])
def test_every_form_that_a_source_may_have_under_data(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    content = b'{"text": "words"}\n' if "jsonl" in name else b"words\n"
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("1.txt", content)
    else:
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert texts(resolve(data=(tmp_path,))) == ["words"]


def test_at_names_a_file_a_folder_or_a_pattern_and_data_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.txt").write_text("wrong")
    for name in ("b.txt", "a.txt", "sub/c.txt", "notes.doc", ".hidden.txt"):
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    assert texts(resolve(data=(tmp_path,), at="texts/b.txt")) == ["b.txt"]
    assert texts(resolve(at="texts")) == ["a.txt", "b.txt", "sub/c.txt"]
    assert texts(resolve(at="texts/*.txt")) == ["a.txt", "b.txt"]
    assert texts(resolve(at="texts/**/*.txt")) == ["a.txt", "b.txt", "sub/c.txt"]
    assert texts(resolve(at="texts/notes.doc")) == ["notes.doc"]


def test_files_are_read_in_the_same_order_whatever_the_file_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b/1.txt", "a.txt", "a/2.txt", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    forwards = texts(resolve(at=str(tmp_path)))
    real = os.scandir

    class Backwards:
        def __init__(self, path: str) -> None:
            with real(path) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self) -> Iterator[os.DirEntry]:
            return iter(self)

        def __iter__(self) -> Iterator[os.DirEntry]:
            return iter(self.entries)

        def __exit__(self, *args: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Backwards)
    assert texts(resolve(at=str(tmp_path))) == forwards == ["a/2.txt", "a.txt", "b/1.txt", "c.txt"]


def test_the_license_is_the_recipes_or_the_catalogues(tmp_path: Path) -> None:
    (tmp_path / "childes.train").write_text("hi")
    (tmp_path / "x.txt").write_text("hi")
    assert "CC BY-NC-SA" in (resolve("childes", (tmp_path,)).license or "")
    assert resolve("childes", (tmp_path,), license="mine").license == "mine"
    assert resolve(data=(tmp_path,)).license is None
    assert "public domain" in (resolve(data=(tmp_path,), at="catalogue:gutenberg").license or "")


def test_a_file_on_the_web_is_downloaded_once_and_read(tmp_path: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "my.jsonl").write_text('{"body": "One."}\n{"body": "Two."}\n')
    sha256 = hashlib.sha256((tmp_path / "site" / "my.jsonl").read_bytes()).hexdigest()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site"))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        at = f"http://127.0.0.1:{server.server_address[1]}/my.jsonl"
        source = SourceSettings(at=at, sha256=sha256, text_key="body", license="CC0")
        corpus = CorpusSettings(sources={"web": source}, budget="1MB", dev_budget="1kB")
        said: list[str] = []
        found = resolve_sources(corpus, [], tmp_path / "cache", say=said.append, patience=QUICK)
        server.shutdown()
    assert texts(found["web"]) == ["One.", "Two."]
    assert found["web"].origin == at
    assert "CC0" in said[0]
    again = resolve_sources(corpus, [], tmp_path / "cache", offline=True)
    assert again == found


def test_the_built_in_grammar_is_endless_deterministic_and_said_to_be_artificial() -> None:
    source = resolve(at="grammar:conversation")
    first = list(itertools.islice(read_documents(source, seed=7), 20))
    assert first == list(itertools.islice(read_documents(source, seed=7), 20))
    assert first != list(itertools.islice(read_documents(source, seed=8), 20))
    assert first[0].place == "grammar:conversation:1"
    assert "artificial" in source.origin
    assert source.files == ()
    with pytest.raises(FirstwordsError, match="no register 'conversations'") as raised:
        resolve(at="grammar:conversations")
    assert "did you mean 'conversation'" in str(raised.value)
    with pytest.raises(FirstwordsError, match="not raw bytes"):
        next(read_chunks(source, 10))


# How text is cut into documents


def test_blank_lines_border_documents_and_places_name_their_first_line(tmp_path: Path) -> None:
    source = of_bytes(tmp_path, b"\n\nOne.\nStill one.\n\n \t\n\nTwo.\r\n\r\nThree.\r\rFour.")
    assert list(read_documents(source, seed=1)) == [
        Document("One.\nStill one.", "x", "x.txt:3"),
        Document("Two.", "x", "x.txt:8"),
        Document("Three.", "x", "x.txt:10"),
        Document("Four.", "x", "x.txt:12"),
    ]


def test_headings_begin_documents_and_stay_in_them(tmp_path: Path) -> None:
    text = b"before\n= = = A = = =\nabout A\n\n= = = = Sub = = = =\nmore\n= = = B = = =\n= = = C = = ="
    source = of_bytes(tmp_path, text, documents="headings")
    assert texts(source) == [
        "before",
        "= = = A = = =\nabout A\n\n= = = = Sub = = = =\nmore",
        "= = = B = = =",
        "= = = C = = =",
    ]


def test_lines_are_gathered_to_the_stated_size(tmp_path: Path) -> None:
    text = b"aaaa\nbbbb\ncccc\n\ndddd\n" + b"long" * 10 + b"\nee\nff"
    source = of_bytes(tmp_path, text, documents="lines", document_bytes=9)
    assert texts(source) == ["aaaa\nbbbb", "cccc\ndddd"[:4], "dddd", "long" * 10, "ee\nff"]


@settings(max_examples=60)
@given(
    lines=st.lists(st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), max_size=30)),
    size=st.integers(1, 80),
    piece=st.integers(1, 50),
)
def test_no_line_is_lost_and_no_size_exceeded_wherever_the_pieces_end(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], size: int, piece: int
) -> None:
    path = tmp_path_factory.mktemp("lines") / "x.txt"
    path.write_bytes("\n".join([*lines, "end"]).encode())
    kept = [line for line in [*lines, "end"] if line.strip()]
    whole = {borders: list(reading.documents(path, borders, size, "text")) for borders in ("lines", "blank-lines")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_PIECE_BYTES", piece)
        for borders, expected in whole.items():
            assert list(reading.documents(path, borders, size, "text")) == expected
    for text, _ in whole["lines"]:
        assert len(text.encode()) <= size or "\n" not in text
    for found in whole.values():
        stripped = [line.strip() for text, _ in found for line in text.split("\n") if line.strip()]
        assert stripped == [line.strip() for line in kept]


def test_text_without_headings_is_refused_where_headings_are_the_borders(tmp_path: Path) -> None:
    source = of_bytes(tmp_path, b"A line of an article.\n" * 50_000, documents="headings")
    with pytest.raises(FirstwordsError, match="without a heading") as found:
        list(read_documents(source, seed=1))
    assert "blank-lines" in str(found.value)


@pytest.mark.parametrize("borders", ["blank-lines", "headings"])
def test_a_document_without_end_is_cut_at_whole_lines(tmp_path: Path, borders: str) -> None:
    text = b"= = = Endless = = =\n" + (b"x" * 99 + b"\n") * 50_000
    found = texts(of_bytes(tmp_path, text, documents=borders))
    assert all(900_000 < len(part) <= 1 << 20 for part in found[:-1])
    assert "\n".join(found).encode() + b"\n" == text


def test_a_line_without_end_is_cut_between_words_or_characters(tmp_path: Path) -> None:
    assert "".join(texts(of_bytes(tmp_path, "é".encode() * 2_000_000))) == "é" * 2_000_000
    words = texts(of_bytes(tmp_path, b"words " * 500_000))
    assert all(text.startswith("words") and text.endswith("words") for text in words)
    assert sum(map(len, words)) + len(words) == 3_000_000


def test_files_are_whole_documents(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"Book {number}\n\nChapter")
    source = resolve(at=str(tmp_path), documents="files")
    assert texts(source) == [f"Book {number}\n\nChapter" for number in range(3)]


def test_zip_members_are_read_sorted_and_others_left_alone(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b.train", "B\n\nB2")
        archive.writestr("a.txt.gz", gzip.compress(b"A"))
        archive.writestr("c.jsonl", '{"text": "C"}')
        archive.writestr("__MACOSX/._a.txt", "no")
        archive.writestr("picture.png", b"\0\0")
    source = resolve(at=str(tmp_path / "x.zip"))
    assert texts(source) == ["A", "B", "B2", "C"]
    assert [document.place for document in read_documents(source, 1)][1] == "x.zip/b.train:1"


def test_jsonl_is_one_document_a_record(tmp_path: Path) -> None:
    lines = [{"body": "One.\r\n\r\nStill one."}, {"body": ""}, {"body": "Two é"}]
    content = "\n\n".join(json.dumps(line) for line in lines).encode()
    assert texts(of_bytes(tmp_path, content, "x.jsonl", text_key="body")) == ["One.\n\nStill one.", "Two é"]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    assert texts(of_bytes(tmp_path, b"\xef\xbb\xbfHello")) == ["Hello"]


def test_chunks_are_the_raw_bytes_of_all_files_one_after_the_other(tmp_path: Path) -> None:
    contents = [b"a\r\n\r\n" * 700, "é".encode()[:1], b"c" * 33]  # the middle one ends within a character
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.txt").write_bytes(content)
    chunks = list(read_chunks(resolve(at=str(tmp_path)), 100))
    assert b"".join(chunks) == b"".join(contents)
    assert {len(chunk) for chunk in chunks[:-1]} == {100}


def test_real_text_loses_nothing(shared_data: Path) -> None:
    path = shared_data / "text" / "wikipedia_en.train"
    source = resolve("wikipedia_en", (shared_data,), documents="headings")
    documents = list(read_documents(source, seed=1))
    assert source.files[0].path == path
    assert len(documents) == 1447
    assert all(document.text.startswith("= = = ") for document in documents)
    lines = path.read_text("utf-8").split("\n")
    for document in documents[::100]:
        assert lines[int(document.place.rpartition(":")[2]) - 1] == document.text.partition("\n")[0]
    assert [word for document in documents for word in document.text.split()] == " ".join(lines).split()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process's memory is not to be had")
def test_a_large_file_does_not_fill_the_memory(tmp_path: Path) -> None:
    with (tmp_path / "x.txt").open("wb") as file:
        for _ in range(60):
            file.write(b"A line of text that is no longer than others.\n\n" * 21_000)  # 60 MB in all
    script = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from firstwords.corpus import reading\n"
        "for borders in ('blank-lines', 'lines'):\n"
        "    for text, place in reading.documents(Path(sys.argv[1]), borders, 4096, 'text'):\n"
        "        pass\n"
        "print(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])\n"
    )
    run = subprocess.run([sys.executable, "-c", script, tmp_path / "x.txt"], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 60_000  # kB, the interpreter included


# What is refused


def test_a_missing_source_says_where_it_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "simple_wiki.train").write_text("text")
    with pytest.raises(FirstwordsError, match="'simple_wikis' was not found") as raised:
        resolve("simple_wikis", (tmp_path,))
    message = str(raised.value)
    assert str(tmp_path) in message
    assert "simple_wikis.train" in message
    assert "did you mean 'simple_wiki'" in message
    with pytest.raises(FirstwordsError, match="was not found") as raised:
        resolve("mine")
    assert "corpus.sources.mine.at" in str(raised.value)
    assert "--data" in str(raised.value)


def test_offline_a_source_of_the_catalogue_is_missed_with_both_places(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match=r"childes.*offline") as raised:
        resolve("childes", (tmp_path,), tmp_path / "cache")
    message = str(raised.value)
    assert str(tmp_path) in message
    assert "https://osf.io" in message
    with pytest.raises(FirstwordsError, match="did you mean 'babylm-2026/childes'"):
        resolve("childes", at="catalogue:babylm-2026/childs")


@pytest.mark.parametrize("at", ["no/such/file.txt", "no_*.txt"])
def test_a_wrong_path_names_its_key(at: str) -> None:
    with pytest.raises(FirstwordsError, match="is not there") as raised:
        resolve(at=at)
    assert "corpus.sources.x.at" in str(raised.value)
    assert raised.value.exit_code == 2


def test_an_unknown_kind_of_address_and_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match="unknown kind"):
        resolve(at="ftp://example.org/x.txt")
    with pytest.raises(FirstwordsError, match="does not exist"):
        resolve(data=(tmp_path / "nowhere",), at="grammar:conversation")
    (tmp_path / "x").mkdir()
    with pytest.raises(FirstwordsError, match="has no text"):
        resolve(at=str(tmp_path / "x"))


def test_an_empty_file_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match=r"x\.txt is empty"):
        of_bytes(tmp_path, b"")
    with pytest.raises(FirstwordsError, match="has no text"):
        texts(of_bytes(tmp_path, b" \n\n \n"))
    with pytest.raises(FirstwordsError, match="has no text"):
        texts(of_bytes(tmp_path, gzip.compress(b""), "x.txt.gz"))


def test_another_text_than_the_recipe_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match="not the text that the recipe names") as raised:
        of_bytes(tmp_path, b"text", sha256="0" * 64)
    assert "corpus.sources.x.sha256" in str(raised.value)


CASES = [
    ("x.txt", b"good\n\ntwo lines\nbad \xff byte\n", "line 4", "x.txt:4"),
    ("x.txt", b"good\n\ncut \xc3", "line 3", "x.txt:3"),
    ("x.txt", b"PNG\0\0", "binary", "byte 4"),
    ("x.txt", "text".encode("utf-16"), "UTF-16", "UTF-8"),
    ("x.txt.gz", gzip.compress(b"text " * 1000, mtime=0)[:-20], "unpacked", "x.txt.gz"),
    ("x.txt.gz", b"no gzip at all", "unpacked", "x.txt.gz"),
    ("x.zip", b"no zip at all", "unpacked", "x.zip"),
    ("x.jsonl", b'{"text": "fine"}\n{"text": \n', "line 2.*JSON", "x.jsonl:2"),
    ("x.jsonl", b'{"text": "fine"}\n\n{"body": "what"}\n', "line 3.*'text'", "body"),
    ("x.jsonl", b'{"text": 5}\n', "is no text", "x.jsonl:1"),
    ("x.jsonl", b'["text"]\n', "no JSON object", "x.jsonl:1"),
    ("x.jsonl", b'{"text": "\\ud800"}\n', "surrogate", "x.jsonl:1"),
    ("x.jsonl", b'{"text": "\xff"}\n', "UTF-8", "x.jsonl:1"),
]


@pytest.mark.parametrize(("name", "content", "problem", "place"), CASES)
def test_what_is_no_text_is_refused_with_its_place(
    tmp_path: Path, name: str, content: bytes, problem: str, place: str
) -> None:
    with pytest.raises(FirstwordsError, match=problem) as raised:
        texts(of_bytes(tmp_path, content, name))
    assert place in str(raised.value)
    assert raised.value.exit_code == 2


def test_a_zip_file_whose_bytes_were_changed_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.txt", "The text of a.")
    packed = (tmp_path / "x.zip").read_bytes().replace(b"The text", b"Teh text")
    with pytest.raises(FirstwordsError, match="unpacked"):
        texts(of_bytes(tmp_path, packed, "x.zip"))


def test_chunks_refuse_what_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match="line 2"):
        list(read_chunks(of_bytes(tmp_path, b"good\nb\xffd\n"), 4))
    with pytest.raises(FirstwordsError, match="binary"):
        list(read_chunks(of_bytes(tmp_path, b"a\0b"), 4))
    with pytest.raises(FirstwordsError, match="JSONL"):
        list(read_chunks(of_bytes(tmp_path, b'{"text": "x"}', "x.jsonl"), 4))
