import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wechat import vectors
from wechat.xml import MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS, MalformedXml, Writable, parse, text_of, write

_REACHED_OUT = ("open", "socket.", "urllib.", "subprocess.", "os.system")
_seen: list[str] | None = None


def _hook(event: str, arguments: object) -> None:
    if _seen is not None and event.startswith(_REACHED_OUT):
        _seen.append(f"{event} {arguments}")


sys.addaudithook(_hook)  # can never be taken away again, so it is idle outside of `watched`


@contextmanager
def watched() -> Iterator[list[str]]:
    """Collects what reaches for a file, the network or a program."""
    global _seen
    _seen = []
    try:
        yield _seen
    finally:
        _seen = None


def refused_cheaply(body: bytes) -> None:
    """Refused in 0.1 s of this thread's processor time, which a busy machine does not lengthen."""
    with watched() as reached:
        started = time.thread_time()
        with pytest.raises(MalformedXml):
            parse(body)
        spent = time.thread_time() - started
        assert reached == []
    assert spent < 0.1


def test_the_watch_would_see_a_file() -> None:
    with watched() as reached, open(__file__, "rb"):
        pass
    assert len(reached) == 1


@vectors.each("xml_attack")
def test_refuses_an_attack_cheaply(vector: vectors.Vector) -> None:
    refused_cheaply(vector.inputs["xml"].encode())


@vectors.each("xml_message")
def test_reads_all_fields(vector: vectors.Vector) -> None:
    assert parse(vector.inputs["xml"].encode()) == vector.expected["fields"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<a>" * 200_000 + b"</a>" * 200_000, id="200,000 nested elements"),
        pytest.param(b"<xml>" + b"<a>" * 200_000 + b"</a>" * 200_000 + b"</xml>", id="the same in a root"),
        pytest.param(b"<xml>" * 13_000, id="13,000 nested elements, inside the cap on bytes"),
        pytest.param(b"<xml><a>" + b"x" * 10_000_000 + b"</a></xml>", id="10 MB"),
        pytest.param(b"\0" * 10_000_000, id="10 MB of zeros"),
        pytest.param(b" " * 10_000_000, id="10 MB of blanks"),
        pytest.param(b"<xml>" + b"<a/>" * 16_000 + b"</xml>", id="16,000 elements beside each other"),
        pytest.param(b"<xml " + b" ".join(b"a%d=''" % n for n in range(6500)), id="6,500 attributes"),
    ],
)
def test_refuses_a_flood_cheaply(body: bytes) -> None:
    refused_cheaply(body)


def test_the_caps_are_where_they_say() -> None:
    shell = len(b"<xml><a></a></xml>")
    assert parse(b"<xml><a>" + b"x" * (MAX_BYTES - shell) + b"</a></xml>")
    with pytest.raises(MalformedXml):
        parse(b"<xml><a>" + b"x" * (MAX_BYTES - shell + 1) + b"</a></xml>")

    assert parse(b"<xml>" + b"<a>" * (MAX_DEPTH - 1) + b"</a>" * (MAX_DEPTH - 1) + b"</xml>")
    with pytest.raises(MalformedXml):
        parse(b"<xml>" + b"<a>" * MAX_DEPTH + b"</a>" * MAX_DEPTH + b"</xml>")

    assert parse(b"<xml>" + b"<a/>" * (MAX_ELEMENTS - 1) + b"</xml>")
    with pytest.raises(MalformedXml):
        parse(b"<xml>" + b"<a/>" * MAX_ELEMENTS + b"</xml>")

    assert parse(b"<xml><a>1</a></xml>", max_depth=2) == {"a": "1"}
    with pytest.raises(MalformedXml):
        parse(b"<xml><a><b/></a></xml>", max_depth=2)


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE xml><xml/>",
        b'<!DOCTYPE xml SYSTEM "http://127.0.0.1:9/x.dtd"><xml/>',
        b'<!DOCTYPE xml PUBLIC "-//x" "x.dtd"><xml/>',
        b"<!DOCTYPE xml []><xml/>",
        b"\xef\xbb\xbf <!DOCTYPE xml><xml/>",
        b"<?xml version='1.0' standalone='no'?><!DOCTYPE xml><xml/>",
        b"<xml><!DOCTYPE xml></xml>",
    ],
)
def test_refuses_every_doctype(body: bytes) -> None:
    refused_cheaply(body)


@pytest.mark.parametrize(
    "body",
    [
        b"<xml>&nbsp;</xml>",
        b"<xml><a>&xxe;</a></xml>",
        b"<xml a='&xxe;'/>",
        b"<xml>&#0;</xml>",
        b"<xml>&#xd800;</xml>",
        b"<xml><a></xml></a>",
        b"<xml></xml><xml></xml>",
        b"<xml></xml>tail",
        b"head<xml></xml>",
        b"<xml>",
        b"<XML></XML>",
        b"<html></html>",
        b"<xml xmlns:x='u'><x:a/></xml2>",
        b"<xml><a>\x00</a></xml>",
        b"<xml><a>\x0b</a></xml>",
        b"<xml><a>\xff</a></xml>",
        b"<xml><a>\xed\xa0\x80</a></xml>",
        b"<xml><a>\xef\xbf\xbf</a></xml>",
        b"<xml><a><![CDATA[open</a></xml>",
        b"<xml><a>]]></a></xml>",
        b"   ",
        b"\xef\xbb\xbf",
        "<xml><a>x</a></xml>".encode("utf-16"),  # expat follows its byte order mark even when told UTF-8
        "<xml><a>x</a></xml>".encode("utf-16-le"),
        b"\xfe\xff" + "<xml><a>x</a></xml>".encode("utf-16-be"),
        "<xml><a>x</a></xml>".encode("utf-32"),
        '<?xml version="1.0" encoding="gbk"?><xml><a>扫码</a></xml>'.encode("gbk"),
        json.dumps({"ToUserName": "a", "FromUserName": "b"}).encode(),
    ],
)
def test_refuses_what_is_not_well_formed(body: bytes) -> None:
    refused_cheaply(body)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"<xml></xml>", {}),
        (b"<xml/>", {}),
        (b"\xef\xbb\xbf<xml><a>1</a></xml>", {"a": "1"}),
        (b" \r\n\t<xml><a>1</a></xml>\n\n", {"a": "1"}),
        (b"<?xml version='1.0' encoding='UTF-8'?><xml><a>1</a></xml>", {"a": "1"}),
        (b" \n<?xml version='1.0' encoding='UTF-8'?><xml><a>1</a></xml>", {"a": "1"}),
        (b"\xef\xbb\xbf\r\n<?xml version='1.0' encoding='UTF-8'?><xml><a>1</a></xml>", {"a": "1"}),
        # A declared encoding must not change what was signed.
        (
            "<?xml version='1.0' encoding='iso-8859-1'?><xml><a>扫</a></xml>".encode(),
            {"a": "扫"},
        ),
        (b"<xml>loose<a>1</a>text</xml>", {"a": "1"}),
        (b"<xml><a> \n<![CDATA[ 1 ]]>\n </a></xml>", {"a": "1"}),
        (b"<xml><a><![CDATA[1]]><![CDATA[2]]>3</a></xml>", {"a": "123"}),
        (b"<xml><a/><b></b><c><![CDATA[]]></c></xml>", {"a": "", "b": "", "c": ""}),
        (b"<xml><a>1</a><a>2</a><a>3</a></xml>", {"a": ["1", "2", "3"]}),
        (b"<xml><a><b>1</b></a><a>2</a></xml>", {"a": [{"b": "1"}, "2"]}),
        (b"<xml><a><b>1</b><b>2</b></a></xml>", {"a": {"b": ["1", "2"]}}),
        (b"<xml><a>&lt;&amp;&gt;&quot;&apos;&#25195;</a></xml>", {"a": "<&>\"'扫"}),
        (b"<xml><a><![CDATA[<b>&lt;</b>]]></a></xml>", {"a": "<b>&lt;</b>"}),
        (b"<xml><!-- c --><a>1<!-- c -->2</a><?pi x?></xml>", {"a": "12"}),
        (b"<xml><a x='1'>2</a></xml>", {"a": "2"}),
        ("<xml><a>\U0001f600\ue001</a></xml>".encode(), {"a": "\U0001f600\ue001"}),
    ],
)
def test_reads_the_shapes_met_in_deliveries(body: bytes, fields: dict[str, Any]) -> None:
    assert parse(body) == fields


@given(
    st.binary() | st.text().map(str.encode) | st.from_regex(r"<xml>(<[ab/]+>|x|&a;)*</xml>").map(str.encode)
)
def test_knows_one_error_only(body: bytes) -> None:
    with suppress(MalformedXml):
        assert isinstance(parse(body), dict)


@pytest.mark.parametrize("fields", [{}, {"a": ["1", "2"]}, {"a": {"b": "1"}}, {"A": "1"}])
def test_a_text_is_there_exactly_once(fields: dict[str, Any]) -> None:
    with pytest.raises(MalformedXml):
        text_of(fields, "a")


def allowed(text: str) -> str:
    """What remains of a text after XML: no forbidden characters, one kind of line end, no blanks around."""
    kept = "".join(
        character
        for character in text
        if character in "\t\n\r"
        or " " <= character <= "\ud7ff"
        or "\ue000" <= character <= "\ufffd"
        or character > "\uffff"
    )
    return kept.replace("\r\n", "\n").replace("\r", "\n").strip()


TEXTS = st.text(st.characters() | st.sampled_from("]>[<&!\0\r\n")) | st.lists(
    st.sampled_from(
        ["]]>", "]]", "]", ">", "<![CDATA[", "</Content>", "\0", "\x1f", "\ud800", "\uffff", "扫", "😀"]
    )
).map("".join)


@given(TEXTS)
def test_any_text_is_read_as_it_was_written(text: str) -> None:
    written = write({"Content": text, "CreateTime": 5}).encode("utf-8")
    assert parse(written) == {"Content": allowed(text), "CreateTime": "5"}


@pytest.mark.parametrize(
    "text", ["]]>", "]]\0>", "]\ud800]>", "]]]]>>", "]]>]]>", "a]]><Evil>x</Evil><![CDATA[b", "]]", "]", ">"]
)
def test_no_text_leaves_its_section(text: str) -> None:
    assert parse(write({"Content": text}).encode()) == {"Content": allowed(text)}


NAMES = st.sampled_from(["a", "b", "Title", "PicUrl"])
TREES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(NAMES, TEXTS | st.integers(), min_size=1),
    lambda inner: st.dictionaries(
        NAMES, TEXTS | inner | st.lists(TEXTS | inner, min_size=2, max_size=3), min_size=1
    ),
    max_leaves=8,
)


def as_read(value: Writable) -> Any:
    if isinstance(value, Mapping):
        return {name: as_read(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_read(item) for item in value]
    return allowed(str(value))


@given(TREES)
def test_any_tree_is_read_as_it_was_written(tree: dict[str, Any]) -> None:
    assert parse(write(tree).encode("utf-8")) == as_read(tree)


def test_writes_text_as_cdata_numbers_bare_and_sequences_repeated() -> None:
    written = write({"a": "x", "n": 5, "item": [{"t": "1"}, {"t": "2"}], "none": []})
    assert written == (
        "<xml><a><![CDATA[x]]></a><n>5</n>"
        "<item><t><![CDATA[1]]></t></item><item><t><![CDATA[2]]></t></item></xml>"
    )


@pytest.mark.parametrize("value", [1.5, None, object()])
def test_writes_nothing_else(value: Any) -> None:
    with pytest.raises(TypeError):
        write({"a": value})
