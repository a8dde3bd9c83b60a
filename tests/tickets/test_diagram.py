from pathlib import Path

import pytest

from tests.tickets.expectations import EXPECTED
from tickets.diagram import BEGIN, END, draw, insert, main

PAGE = f"# 标题\n\nbefore\n{BEGIN}\nold drawing\n{END}\nafter\n"


def test_every_transition_is_drawn_and_no_other() -> None:
    steps = {
        f"    {state} --> {cell}: {event}" for (state, event), cell in EXPECTED.items() if cell not in "-="
    }
    ends = {"    [*] --> WAITING", "    CONSUMED --> [*]", "    CANCELLED --> [*]"}
    begin, kind, *drawn, end = draw().splitlines()
    assert (begin, kind, end) == ("```mermaid", "stateDiagram-v2", "```")
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == steps | ends


def test_goes_between_the_markers() -> None:
    page = insert(PAGE)
    assert page == f"# 标题\n\nbefore\n{BEGIN}\n{draw()}\n{END}\nafter\n"
    assert insert(page) == page


def test_takes_an_empty_place() -> None:
    assert insert(f"{BEGIN}{END}") == f"{BEGIN}\n{draw()}\n{END}"


@pytest.mark.parametrize("page", ["", "text", BEGIN, END, f"{END}\n{BEGIN}", draw(), BEGIN.upper() + END])
def test_refuses_a_page_without_a_place(page: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        insert(page)


def test_the_command_changes_the_pages_it_is_given(tmp_path: Path) -> None:
    pages = [tmp_path / "one.md", tmp_path / "two.md"]
    for page in pages:
        page.write_text(PAGE, "utf-8")
    main([str(page) for page in pages])
    assert [page.read_text("utf-8") for page in pages] == [insert(PAGE)] * 2


def test_the_command_leaves_a_page_without_a_place_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text", "utf-8")
    with pytest.raises(ValueError, match="no place"):
        main([str(page)])
    assert page.read_text("utf-8") == "text"


def test_the_command_prints_without_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert capsys.readouterr().out == draw() + "\n"
