"""The description of the REST part: valid, complete, and true of the running handlers."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from tornado.web import RequestHandler

import errors
from errors import SaomaError
from flows import access_token, app_login
from handlers import openapi
from handlers.cookies import CookieNames
from storage.rates import Rate
from tests.handlers.described import (
    OTHER,
    PATH,
    SHOP,
    Report,
    Situations,
    ask_all,
    operations,
    with_credentials,
)
from tests.handlers.test_app import APP
from tests.harness import Whole, document, running

# Of each operation; `make fuzz` asks for more.
EXAMPLES = int(os.environ.get("SAOMA_OPENAPI_EXAMPLES", "2"))
REST = re.compile(r"/api/v1/|/healthz|/readyz")
DESCRIBED = openapi.described("https://login.example.com", CookieNames(secure=True))


# --- The document.


def test_it_is_a_valid_document():
    OpenAPIV31SpecValidator(DESCRIBED).validate()


def test_every_rest_route_and_method_is_described_and_nothing_else(tmp_path):
    async def routes() -> list[tuple[str, str]]:
        async with running(tmp_path) as whole:
            return list(served(whole))

    assert sorted(asyncio.run(routes())) == sorted(
        (method, path) for method, path, _ in operations(DESCRIBED)
    )


def served(whole: Whole) -> Iterator[tuple[str, str]]:
    """(method, path) of the REST part, from the table of addresses."""
    unknown = RequestHandler._unimplemented_method
    rules: list[Any] = whole.server._changes._application.wildcard_router.rules
    for rule in rules:
        pattern = rule.matcher.regex.pattern.rstrip("$")
        if not REST.match(pattern):
            continue
        path = pattern.replace(r"([A-Za-z0-9_-]{1,64})", "{id}").replace(r"\.", ".")
        choice = re.search(r"\(([a-z|]+)\)", path)
        paths = [path.replace(choice[0], one) for one in choice[1].split("|")] if choice else [path]
        for method in rule.target.SUPPORTED_METHODS:
            if getattr(rule.target, method.lower()) is not unknown:
                yield from ((method, one) for one in paths)


def test_every_operation_says_what_it_is():
    names = [operation["operationId"] for _, _, operation in operations(DESCRIBED)]
    assert len(names) == len(set(names))
    tags = {tag["name"] for tag in DESCRIBED["tags"]}
    for method, path, operation in operations(DESCRIBED):
        assert operation["summary"], path
        assert set(operation["tags"]) <= tags
        if not path.endswith("z"):
            assert operation["description"], (method, path)
            assert "security" in operation
            assert "421" in operation["responses"]


def responses() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(operationId, status, response) with references followed."""
    for _, _, operation in operations(DESCRIBED):
        for status, response in operation["responses"].items():
            yield operation["operationId"], status, followed(response)


def followed(node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    found: Any = DESCRIBED
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def codes_of(content: dict[str, Any]) -> set[str]:
    """The codes that a problem may have, by its schema."""
    problem, more = content["schema"]["allOf"]
    assert followed(problem) is DESCRIBED["components"]["schemas"]["Problem"]
    choices = more.get("oneOf", [more])
    found = [choice["properties"]["code"] for choice in choices]
    return {code for one in found for code in one.get("enum", [one.get("const")])}


def test_every_failure_is_a_problem_with_a_code_that_there_is():
    kinds = {
        (str(error.status), error.code)
        for module in (errors, app_login, access_token)
        for error in vars(module).values()
        if isinstance(error, type) and issubclass(error, SaomaError)
    }
    plain = {(str(int(status)), status.name.lower()) for status in HTTPStatus}
    seen = set()
    for name, status, response in responses():
        if status < "400" or name.startswith("head"):
            continue
        assert response["content"].keys() == {"application/problem+json"}, name
        content = response["content"]["application/problem+json"]
        for code in codes_of(content):
            assert (status, code) in kinds | plain, (name, status, code)
            assert f"`{code}`" in response["description"], (name, status, code)
            seen.add((status, code))
        assert content["example"]["code"] in codes_of(content)
    assert {("500", "internal_error")} == kinds - seen, "codes that nothing is described to answer with"


def examples() -> Iterator[tuple[str, Any, Any]]:
    """(where, schema, example) of all parameters and bodies."""
    for _, _, operation in operations(DESCRIBED):
        contents = [followed(operation["requestBody"])] if "requestBody" in operation else []
        contents += [followed(response) for response in operation["responses"].values()]
        for media in itertools.chain(*(content.get("content", {}).values() for content in contents)):
            if not media:
                continue
            told = [media["example"]] if "example" in media else []
            told += [example["value"] for example in media.get("examples", {}).values()]
            assert told, operation["operationId"]
            yield from ((operation["operationId"], media["schema"], one) for one in told)
        for parameter in operation.get("parameters", ()):
            yield parameter["name"], parameter["schema"], parameter["example"]


def test_every_example_is_one():
    checked = 0
    for where, schema, example in examples():
        whole = {**schema, "components": DESCRIBED["components"]}
        faults = [fault.message for fault in OAS31Validator(whole).iter_errors(example)]
        assert faults == [], where
        checked += 1
    assert checked > 40


# --- How it is served.


@pytest.mark.parametrize(("base_url", "prefix"), [("", ""), ("https://login.example.com", "__Host-")])
async def test_anybody_may_read_it_and_keep_it_for_a_while(tmp_path, base_url, prefix):
    async with running(tmp_path, server={"base_url": base_url}) as whole:
        response = await whole.browser(Origin="https://docs.example").get(PATH)
        assert response.code == 200
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "public, max-age=300"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        told = document(response)
        assert told["servers"] == [{"url": whole.base_url}]
        schemes = told["components"]["securitySchemes"]
        assert schemes["sessionCookie"]["name"] == f"{prefix}saoma-session"
        assert schemes["ticketCookie"]["name"] == f"{prefix}saoma-ticket-{{id}}"


# --- What is true of the handlers.

ONLY_EXAMPLES: dict[str, Any] = {
    "examples": {"fill-missing": True},
    "coverage": {"enabled": False},
    "fuzzing": {"enabled": False},
    "stateful": {"enabled": False},
}


@asynccontextmanager
async def serving(folder: Path, **settings: Any) -> AsyncIterator[Whole]:
    wanted = {"limits": {"enabled": False}, "app": APP, "sites": [SHOP, OTHER], "wechat": {"pool_size": 3}}
    async with running(folder, **{**wanted, **settings}) as whole:
        yield whole


async def asked(whole: Whole, **config: Any) -> Report:
    told = document(await whole.browser().get(PATH))
    report = await asyncio.to_thread(ask_all, told, whole.address, **config)
    assert not report.failures, "\n\n".join(report.failures)
    return report


async def in_trouble(folder: Path) -> Report:
    """What is answered to a foreign name, to too many questions, and with the store and WeChat away."""
    async with serving(folder / "elsewhere") as whole:
        accepted = {"positive_data_acceptance": {"expected-statuses": ["200", "421"]}}
        report = await asked(
            whole,
            phases=ONLY_EXAMPLES,
            put=with_credentials,
            headers={"Host": "evil.example"},
            checks=accepted,
        )
    limits = {"tickets_per_address": 1, "app_calls_per_person": 1}
    async with serving(folder / "limited", limits=limits) as whole:
        for _ in range(2):
            report += await asked(whole, phases=ONLY_EXAMPLES, put=with_credentials)
    unavailable = {"not_a_server_error": {"expected-statuses": ["200", "503"]}}
    async with serving(folder / "away", wechat={"pool_size": 0}) as whole:
        whole.emulator.platform.down = True
        transact, ping = whole.storage.transact, whole.storage.ping
        whole.store_goes_away()
        report += await asked(whole, phases=ONLY_EXAMPLES, put=with_credentials, checks=unavailable)
        whole.storage.transact, whole.storage.ping = transact, ping  # type: ignore[method-assign]
    return report


async def test_the_handlers_do_what_is_described_and_all_of_it(tmp_path, expect_log, monkeypatch):
    expect_log("did not answer")
    monkeypatch.setattr("handlers.tickets.MAX_WAIT", 0.02)
    monkeypatch.setattr("wechat.client.RETRY_PAUSES", ())
    monkeypatch.setattr("flows.access_token.RATE", Rate.per_minute("access-tokens", 1))
    report = await in_trouble(tmp_path)
    everything = {
        "app": {**APP, "number_match": True},
        "limits": {"tickets_per_address": 100_000, "tickets_per_node": 100_000},
    }
    async with serving(tmp_path / "all", **everything) as whole:
        situations = Situations(whole, asyncio.get_running_loop())
        report += await asked(whole, generation={"max-examples": EXAMPLES}, put=situations)
    assert report.requests > 500
    statuses = {
        (operation["operationId"], status)
        for _, _, operation in operations(DESCRIBED)
        for status in operation["responses"]
    }
    assert sorted(statuses - report.answered) == [], "described, and never answered"
