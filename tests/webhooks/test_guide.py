"""What docs/webhooks.md tells, in both languages: the code works, and nothing is missing or made up."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import get_args

import pytest

from config.values import WebhookEvent
from tests.receiver import OLD_SECRET, SECRET
from webhooks import signed_headers

ROOT = Path(__file__).parent.parent.parent
GUIDES = [ROOT / "docs" / name for name in ("webhooks.md", "webhooks.zh-CN.md")]
BODY = '{"type": "user.followed", "data": {"name": "张三 👩‍💻"}}'.encode()

# What calls `verified` with the JSON on standard input, and prints whether it is.
CALLERS = {
    "python": (
        "python3",
        "import json, sys\n"
        "given = json.load(sys.stdin)\n"
        "print(verified(given['body'].encode(), given['headers'], given['secret']))",
    ),
    "php": (
        "php",
        "$given = json_decode(stream_get_contents(STDIN), true);\n"
        "foreach ($given['headers'] as $name => $value) {\n"
        "    $server['HTTP_' . strtoupper(strtr($name, '-', '_'))] = $value;\n"
        "}\n"
        "echo verified($given['body'], $server, $given['secret']) ? 'true' : 'false';",
    ),
    "node": (
        "node",
        "const given = JSON.parse(require('node:fs').readFileSync(0))\n"
        "console.log(verified(Buffer.from(given.body), given.headers, given.secret))",
    ),
}


def code_of(guide: Path, language: str) -> str:
    found = re.search(rf"<!-- verify: {language} -->\n```\w+\n(.*?)```", guide.read_text("utf-8"), re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize("language", CALLERS)
def test_the_code_takes_what_is_ours_and_nothing_else(tmp_path, language):
    program, caller = CALLERS[language]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    source = tmp_path / ("verify.cjs" if language == "node" else "verify")
    source.write_text(code_of(GUIDES[0], language) + caller, "utf-8")

    def outcome(headers: dict[str, str], body: bytes = BODY) -> bool:
        given = json.dumps({"headers": headers, "body": body.decode(), "secret": SECRET})
        ran = subprocess.run([program, source], input=given, capture_output=True, text=True, timeout=30)
        assert ran.stdout.strip().lower() in ("true", "false"), (ran.stdout, ran.stderr)
        return ran.stdout.strip().lower() == "true"

    now = int(time.time())
    ours = signed_headers("msg_1", now, BODY, [OLD_SECRET, SECRET])
    assert outcome(ours)
    assert not outcome(ours, BODY + b" ")
    assert not outcome({**ours, "webhook-id": "msg_2"})
    assert not outcome(signed_headers("msg_1", now, BODY, [OLD_SECRET]))
    assert not outcome(signed_headers("msg_1", now - 3600, BODY, [SECRET]))


def test_both_languages_have_the_same_code_and_the_same_examples():
    blocks = [re.findall(r"```(\w+)\n(.*?)```", guide.read_text("utf-8"), re.DOTALL) for guide in GUIDES]
    first, second = ([block for block in each if block[0] != "yaml"] for each in blocks)
    assert first == second
    assert len(first) >= 6


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_event_is_told_of(guide):
    told = re.findall(r"^\| `([a-z]+\.[a-z]+|test)` \|", guide.read_text("utf-8"), re.MULTILINE)
    assert sorted(told) == sorted([*get_args(WebhookEvent), "test"])
