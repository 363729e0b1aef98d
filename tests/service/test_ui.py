from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import pytest

from service.store.values import BlockState, Outcome, RunState
from service.web.badges import BLOCK_BADGES, OUTCOME_BADGES, RUN_BADGES
from tests.parts.projects import BlockFile, open_webhook, write, write_pipeline, write_project
from tests.parts.site import Site, site

STYLES = Path(__file__).parents[2] / "service" / "web" / "static" / "page.css"
GROUPS = ("good", "bad", "active", "waiting", "neutral")
LEAST_CONTRAST = 4.5  # WCAG AA for text of this size


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Site]:
    write_project(tmp_path)
    names = [f"b{number:02}" for number in range(14)]
    blocks = [BlockFile(name, f"@custom\ndef {name}():\n    return 1\n") for name in names]
    write_pipeline(tmp_path, "etl", blocks[:2], description="Moves <things>.", triggers=[open_webhook()])
    write_pipeline(tmp_path, "wide", blocks)
    with site(tmp_path) as made:
        yield made


def text_of(html: str) -> str:
    """Return what a reader sees, with single spaces."""
    collected: list[str] = []

    class Collector(HTMLParser):
        def handle_data(self, data: str) -> None:
            collected.append(data)

    Collector().feed(html)
    return " ".join(" ".join(collected).split())


def fragment(demo: Site) -> str:
    answer = demo.client.get("/overview")
    assert answer.status_code == 200
    return answer.text


def test_empty_service_says_what_to_do_next(demo: Site) -> None:
    text = text_of(demo.client.get("/").text)

    assert "Nothing has run yet" in text
    assert "/webhooks/etl/hook" in text


def test_page_shows_pipelines_with_their_triggers(demo: Site) -> None:
    text = text_of(fragment(demo))

    assert "etl Moves <things>. ○ no run yet 2 hook webhook /webhooks/etl/hook" in text


def test_page_shows_runs_with_the_state_of_every_block(demo: Site) -> None:
    demo.enqueue("etl")
    demo.finish({"b00": BlockState.SUCCEEDED, "b01": BlockState.FAILED}, error="ValueError: <no>\ntrace")

    text = text_of(fragment(demo))

    assert "✕ failed etl hand ✓ b00 succeeded ✕ b01 failed" in text
    assert "ValueError: <no>" in text
    assert "trace" not in text


def test_run_with_many_blocks_shows_how_many_are_in_which_state(demo: Site) -> None:
    demo.enqueue("wide")
    demo.finish({f"b{number:02}": BlockState.SUCCEEDED for number in range(14)})

    assert "✓ 14 succeeded" in text_of(fragment(demo))


def test_page_shows_events_with_outcome_and_reason(demo: Site) -> None:
    recorded = demo.record("a")
    demo.record("b", outcome=Outcome.FILTERED, match_reason="size is 0")

    text = text_of(fragment(demo))

    assert f"✓ ran webhook:etl/hook webhook.received {recorded.run_ids[0][-8:]}" in text
    assert "▽ filtered webhook:etl/hook" in text
    assert "size is 0" in text


def test_page_shows_paused_triggers(demo: Site) -> None:
    demo.client.post("/api/v1/triggers/etl/hook/pause")

    assert "/webhooks/etl/hook ‖ paused" in text_of(fragment(demo))


def test_page_warns_while_no_engine_is_alive(demo: Site) -> None:
    assert "No engine is alive" in fragment(demo)

    demo.beat("one")

    assert "No engine is alive" not in fragment(demo)


def test_page_shows_the_problems_of_the_project(demo: Site) -> None:
    write(demo.runtime.projects.default.root / "pipelines" / "broken" / "metadata.yaml", "blocks: [\n")
    demo.runtime.projects.refresh()

    assert "pipelines/broken/metadata.yaml" in text_of(fragment(demo))


def test_what_users_wrote_is_escaped(demo: Site) -> None:
    demo.record("x", subject="<script>alert(1)</script>", outcome=Outcome.UNMATCHED, reason="<img src=x>")

    html = fragment(demo)

    assert "<script>" not in html
    assert "<img" not in html


def test_fragment_that_did_not_change_is_304(demo: Site) -> None:
    tag = demo.client.get("/overview").headers["ETag"]

    assert demo.client.get("/overview", headers={"If-None-Match": tag}).status_code == 304
    demo.enqueue()
    assert demo.client.get("/overview", headers={"If-None-Match": tag}).status_code == 200


def test_page_keeps_to_its_own_policy(demo: Site) -> None:
    demo.record("a")
    html = demo.client.get("/").text

    assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", html)
    assert all(link.startswith(("/", "#")) for link in re.findall(r'(?:href|src)="([^"]*)"', html))
    assert re.findall(r"<script[^>]*>([^<]*)</script>", html) == [""]


def test_every_local_link_of_the_page_is_answered(demo: Site) -> None:
    demo.record("a")
    links = set(re.findall(r'(?:href|src)="(/[^"]*)"', demo.client.get("/").text))

    assert links
    for link in links:
        with demo.client.get(link.replace("&amp;", "&")) as answer:
            assert answer.status_code == 200, link


def test_every_state_has_a_badge_with_a_glyph_and_a_word() -> None:
    assert set(RUN_BADGES) == set(RunState)
    assert set(BLOCK_BADGES) == set(BlockState)
    assert set(OUTCOME_BADGES) == set(Outcome)
    for badge in chain(RUN_BADGES.values(), BLOCK_BADGES.values(), OUTCOME_BADGES.values()):
        assert badge.glyph
        assert badge.word
        assert badge.group.split()[0] in GROUPS


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("group", GROUPS)
def test_badges_can_be_read_in_both_themes(theme: int, group: str) -> None:
    colours = themes()[theme]

    assert contrast(colours[group], colours[f"{group}-bg"]) >= LEAST_CONTRAST
    assert contrast(colours[group], colours["panel"]) >= LEAST_CONTRAST


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_can_be_read_in_both_themes(theme: int) -> None:
    colours = themes()[theme]

    for name in ("ink", "quiet", "link"):
        assert contrast(colours[name], colours["panel"]) >= LEAST_CONTRAST
        assert contrast(colours[name], colours["page"]) >= LEAST_CONTRAST


def themes() -> list[dict[str, str]]:
    """Return the colours of the light and the dark theme as the style sheet has them."""
    roots = re.findall(r":root \{([^}]*)\}", STYLES.read_text())
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", root)) for root in roots]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
