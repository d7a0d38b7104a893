"""The JSON API answers LibreTranslate's request forms, with the translations of the run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seq2seq
from seq2seq.config.settings import DataSettings
from seq2seq.decoding.translator import translation_options
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.loaded_run import LoadedRun
from seq2seq.serving.access import Access
from seq2seq.serving.app import Service
from seq2seq.serving.limits import Limits
from seq2seq.serving.requested_text import read_html
from seq2seq.serving.served_run import ServedRun
from seq2seq.serving.server import started
from tests.serving.conftest import LOOPBACK, OLD_RUNS, ask, english, post

LINES = (OLD_RUNS / "corpus.en").read_text(encoding="utf-8").splitlines()[:4]


def test_the_translation_is_that_of_the_run(service: Service, loaded: LoadedRun) -> None:
    answer = post(service, json=english(LINES[0]))
    assert answer.status_code == 200
    assert answer.json() == {"translatedText": loaded.translate(LINES[0])}


def test_a_run_that_reranks_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DataSettings, "languages", ("", ""))
    monkeypatch.setattr("seq2seq.runs.loaded_run.translates_forward", lambda *_: None)
    runs = OLD_RUNS / "runs"
    loaded = seq2seq.load(runs / "transformer", threads=1, workers=1, rerank=runs / "gru", rerank_weight=3.0)
    monkeypatch.setattr(loaded.translator.engine, "prepare", lambda characters: None)
    run = ServedRun(loaded, translation_options(loaded.translator.settings), Limits())
    with started([run], Limits(), LOOPBACK) as service:
        answer = post(service, json=english(LINES)).json()["translatedText"]
    assert answer == loaded.translate(LINES) != seq2seq.load(runs / "transformer").translate(LINES)


@pytest.mark.parametrize("form", ["json", "urlencoded", "multipart"])
def test_every_form_of_a_body_says_the_same(service: Service, loaded: LoadedRun, form: str) -> None:
    fields = english(LINES[1], alternatives="2", format="text", api_key="")
    match form:
        case "json":
            answer = post(service, json={**fields, "alternatives": 2})
        case "urlencoded":
            answer = post(service, data=fields)
        case _:
            answer = post(service, files={name: (None, value) for name, value in fields.items()})
    first, *others = loaded.translate(LINES[1], n_best=3)
    assert answer.json() == {"translatedText": first, "alternatives": others}


def test_a_list_is_answered_by_lists(service: Service, loaded: LoadedRun) -> None:
    answer = post(service, json=english(LINES, source="auto", alternatives=1)).json()
    assert answer["translatedText"] == loaded.translate(LINES)
    assert [guess["language"] for guess in answer["detectedLanguage"]] == ["en"] * 4
    assert all(len(each) == 1 for each in answer["alternatives"])
    form = urlencode([("q", LINES[0]), ("q", LINES[1]), ("source", "en"), ("target", "de")])
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert post(service, content=form, headers=headers).json()["translatedText"] == loaded.translate(LINES[:2])


def test_lines_and_spaces_stay(service: Service, loaded: LoadedRun) -> None:
    text = f"{LINES[0]} {LINES[1]}\r\n\n  - {LINES[2]}"
    expected = [loaded.translate(line) for line in (*LINES[:2], f"- {LINES[2]}")]
    assert post(service, json=english(text)).json()["translatedText"] == "{} {}\n\n  {}".format(*expected)
    assert post(service, json=english("")).json()["translatedText"] == ""
    assert post(service, json=english(" \n")).json()["translatedText"] == " \n"


def test_scores_and_attention(service: Service) -> None:
    answer = post(service, json=english(f"{LINES[0]}\n123", attention=True, alternatives=1)).json()
    sentence, number = answer["sentences"]
    assert sentence["source"] == LINES[0]
    assert sentence["translations"][0]["score"] >= sentence["translations"][1]["score"]
    attention = sentence["attention"]
    assert attention["source"] == LINES[0].split()
    assert attention["target"] == sentence["translations"][0]["text"].split()
    assert {len(row) for row in attention["weights"]} == {len(attention["source"])}
    assert all(0 <= weight <= 1 for row in attention["weights"] for weight in row)
    assert number == {  # a line without letters is copied
        "source": "123",
        "translations": [{"text": "123", "score": None, "log_probability": None}],
        "attention": None,
    }
    assert answer["parts"] == ["", [0, 1], "", "\n", [1, 2], ""]


def test_html_keeps_its_tags(service: Service, loaded: LoadedRun) -> None:
    source = (
        f'<p title="a > b">{LINES[0]}<br/> <b>{LINES[1]}</b></p><!-- {LINES[2]} --><script>if (a<b) x</script> &lt; '
    )
    first, second = loaded.translate(LINES[:2])
    answer = post(service, json=english(source, format="html")).json()["translatedText"]
    expected = f'<p title="a > b">{first}<br/> <b>{second}</b></p><!-- {LINES[2]} --><script>if (a<b) x</script> &lt; '
    assert answer == expected


def test_inline_tags_stand_within_the_translation(service: Service, loaded: LoadedRun) -> None:
    """The texts between them were translated apart: `A man is <b>riding</b> a bike.` as three sentences."""
    first, *words = LINES[0].split(" ")
    source = f'<p><a href="x">{first}</a> {" ".join(words)} {LINES[1]}</p>'
    answer = post(service, json=english(source, format="html", alternatives=1)).json()
    one, other = loaded.translate(LINES[:2])
    for text in (answer["translatedText"], *answer["alternatives"]):
        assert re.fullmatch('<p>[^<]*<a href="x">[^<]*</a>[^<]*</p>', text)
    assert re.sub("</?a[^>]*>", "", answer["translatedText"]) == f"<p>{one} {other}</p>"
    assert "sentences" not in answer


def test_words_of_a_translation_end_at_plain_spaces() -> None:
    """A no-break space moved the tags of the sentences after it."""
    document = read_html("<p>Why? A <b>man</b> sleeps.</p>", lambda text: ["Why?", "A man sleeps."], inline_tags=True)
    links = [[(0, 0)], [(0, 0), (1, 1), (2, 2)]]
    assert document.joined(["Pourquoi\u00a0?", "Un homme dort."], links) == (
        "<p>Pourquoi\u00a0? Un <b>homme</b> dort.</p>"
    )


def test_an_element_with_a_name_of_its_own_is_text() -> None:
    """`<svg-icon>` hid the rest of the document, as if it were an `<svg>` without an end."""
    document = read_html('<svg-icon name="a"></svg-icon><p>Hello world</p><svg x="1">no</svg>', lambda line: [line])
    assert document.sentences == ["Hello world"]


def test_a_long_sentence_is_translated_in_parts(service: Service) -> None:
    """The model of the run reads 64 tokens."""
    answer = post(service, json=english("the man " * 100, attention=True)).json()
    assert len(answer["sentences"]) > 1
    assert all(sentence["attention"] for sentence in answer["sentences"])


def test_pages_of_information(service: Service) -> None:
    languages, settings_, health, metrics = ask(
        service, *(("GET", path, {}) for path in ("/languages", "/frontend/settings", "/health", "/metrics"))
    )
    assert languages.json() == [
        {"code": "de", "name": "German", "targets": []},
        {"code": "en", "name": "English", "targets": ["de"]},
    ]
    assert settings_.json()["charLimit"] == 5000
    assert settings_.json()["language"]["target"] == {"code": "de", "name": "German"}
    assert health.json() == {"status": "ok"}
    assert 'seq2seq_requests_total{path="/languages",status="200"} 1\n' in metrics.text
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    (guess,) = post(service, "/detect", json={"q": "a text"}).json()
    assert guess["language"] == "en"
    assert 0 <= guess["confidence"] <= 100


def test_a_language_may_have_a_region_and_be_its_own_target(service: Service, loaded: LoadedRun) -> None:
    for source, target in (("en-GB", "de_AT"), ("eng", "deu")):
        answer = post(service, json=english(LINES[0], source=source, target=target))
        assert answer.json()["translatedText"] == loaded.translate(LINES[0])
    assert post(service, json=english("A text. And one.", target="en")).json()["translatedText"] == "A text. And one."


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({}, "q must be a text"),
        (english(3), "q must be a text"),
        (english([]), "q must be a text"),
        (english(["a", None]), "q must be a text"),
        ({"q": "a", "target": "de"}, "source must be a language code"),
        (english("a", target="fr"), "'en' to 'fr' is not served"),
        (english("a", format="docx"), "format must be text or html"),
        (english("a", alternatives=10), "alternatives must be a number from 0 to 9"),
        (english("a", alternatives="many"), "alternatives must be a number"),
        (english("a", alternatives=[]), "alternatives must be a number"),
        (english("a", attention="perhaps"), "attention must be true or false"),
        (english("a", attention=2), "attention must be true or false"),
        (english("a", scores=[True]), "scores must be true or false"),
        ([1], "neither a JSON object nor a form"),
    ],
)
def test_what_cannot_be_meant_is_said(service: Service, body: Any, what: str) -> None:
    answer = post(service, json=body)
    assert answer.status_code == 400
    assert what in answer.json()["error"]


def test_errors_of_the_protocol_are_json_too(service: Service) -> None:
    absent, wrong, garbage, deep = ask(
        service,
        ("GET", "/absent", {}),
        ("GET", "/translate", {}),
        ("POST", "/translate", {"content": b'{"q": "\xff'}),
        ("POST", "/translate", {"content": b"[" * 16_000}),
    )
    assert [answer.status_code for answer in (absent, wrong, garbage, deep)] == [404, 405, 400, 400]
    assert all(list(answer.json()) == ["error"] for answer in (absent, wrong, garbage, deep))
    assert set(wrong.headers["allow"].split(", ")) == {"POST", "OPTIONS"}


@pytest.mark.parametrize("kind", ["Application/X-WWW-Form-Urlencoded; charset=UTF-8", "application/json"])
def test_media_types_have_no_case(service: Service, kind: str) -> None:
    form = b"q=A+dog&source=en&target=de&format=" if "json" not in kind else dumps(english("A dog", format=None))
    answer = post(service, content=form, headers={"content-type": kind})
    assert answer.status_code == 200, answer.text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = ("q", "source", "target", "format", "alternatives", "scores", "attention", "api_key")
codes = st.sampled_from(["en", "de", "auto", "EN"])
bodies = st.fixed_dictionaries(
    {"q": st.text(max_size=30) | st.lists(st.text(max_size=9), max_size=3) | json_values},
    optional={
        "source": codes | json_values,
        "target": codes | json_values,
        **dict.fromkeys(names[3:], json_values),
    },
)
kinds = st.sampled_from(
    [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b",
        "",
        "text/\xe4; charset=x",
    ]
)


@settings(max_examples=60)
@given(body=bodies)
def test_fuzzed_fields_are_answered_or_refused(service: Service, body: dict[str, Any]) -> None:
    answer = post(service, content=dumps(body))
    assert answer.status_code in (200, 400), answer.text
    assert ("error" in answer.json()) == (answer.status_code == 400)


@settings(max_examples=60)
@given(content=st.binary(max_size=60) | st.text(max_size=40).map(lambda text: f"--b\r\n{text}".encode()), kind=kinds)
def test_fuzzed_bytes_are_refused(service: Service, content: bytes, kind: str) -> None:
    answer = post(service, content=content, headers={b"content-type": kind.encode("latin-1")})
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


def dumps(body: dict[str, Any]) -> bytes:
    """JSON as a careless client writes it: NaN, and lone surrogates as escapes."""
    import json

    return json.dumps(body).encode()


def test_lone_surrogates_and_nul_are_no_fault(service: Service) -> None:
    answer = post(service, content=dumps(english("a \ud800 text\0", source="\udcff")))
    assert answer.status_code == 400
    answer = post(service, content=dumps(english("a \ud800 text\0", alternatives=1)))
    assert answer.status_code == 200


def test_several_runs_and_the_language_of_a_text(paced: Any) -> None:
    paced = paced()
    fields = {"q": ["the dog", "der Hund"], "source": "auto", "target": "en"}
    answer = post(paced.service, json=fields).json()
    assert answer["translatedText"] == ["the dog", "DER HUND"]
    assert [guess["language"] for guess in answer["detectedLanguage"]] == ["en", "de"]
    assert (paced.run.batches, paced.back.batches) == ([], [["der Hund"]])
    rows = ask(paced.service, ("GET", "/languages", {}))[0].json()
    assert [(row["code"], row["targets"]) for row in rows] == [("de", ["en"]), ("en", ["de"])]


def test_runs_of_one_name_have_metrics_of_their_own(paced: Any) -> None:
    paced = paced()
    paced.back.loaded.directory = RunDirectory(Path("back") / paced.run.name)
    (metrics,) = ask(paced.service, ("GET", "/metrics", {}))
    names = re.findall(r'seq2seq_batches_total\{run="([^"]*)"\}', metrics.text)
    assert names == [str(run.loaded.directory.path) for run in (paced.run, paced.back)]


def test_keys(paced: Any) -> None:
    service = paced(access=Access.on("127.0.0.1", (), (), ("secret", "schlüssel"))).service
    assert post(service, json=english("a")).status_code == 403
    assert post(service, json=english("a", api_key="wrong")).status_code == 403
    assert post(service, json=english("a", api_key=["secret"])).status_code == 403
    assert post(service, json=english("a", api_key="schlüssel")).json() == {"translatedText": "A"}
    for header in ("Bearer secret", "bearer  secret", "Bearer schlüssel".encode()):
        assert post(service, json=english("a"), headers={"authorization": header}).status_code == 200
    for header in ("secret", "Basic secret", "Bearer", "Bearer wrong"):
        assert post(service, json=english("a"), headers={"authorization": header}).status_code == 403
    assert ask(service, ("GET", "/frontend/settings", {}))[0].json()["keyRequired"]
