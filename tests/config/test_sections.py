"""What sections ask of their settings together, and what they warn of."""

from __future__ import annotations

import pytest

import config
from tests.config.reading import FULL, LONG, document_faults, faults, load, written


@pytest.mark.parametrize("mode", ["safe", "compatible", "plain"])
@pytest.mark.parametrize("missing", sorted(FULL))
def test_a_section_filled_in_part(tmp_path, mode, missing):
    wechat = {**FULL, "mode": mode, missing: ""}
    if missing == "encoding_aes_key" and mode == "plain":
        assert config.load(written(tmp_path, {"wechat": wechat}), {}).wechat.enabled
        return
    (fault,) = document_faults(tmp_path, {"wechat": wechat})
    assert fault.startswith(f"wechat.{missing}: is missing")
    assert mode in fault


@pytest.mark.parametrize("given", sorted(FULL))
def test_one_value_alone_is_a_section_filled_in_part(tmp_path, given):
    found = document_faults(tmp_path, {"wechat": {given: FULL[given]}})
    assert len(found) == 3
    assert not any(fault.startswith(f"wechat.{given}:") for fault in found)


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_needs_no_base_url(tmp_path, address):
    assert load(tmp_path, f"server: {{address: '{address}'}}").server.base_url == ""


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "", "10.0.0.1", "example.com", "localhost.evil.com"])
def test_other_addresses_need_one(tmp_path, address):
    (fault,) = faults(tmp_path, f"server: {{address: '{address}'}}")
    assert fault.startswith("server.base_url: ")
    assert load(tmp_path, f"server: {{address: '{address}', base_url: 'https://a.example'}}")


def test_two_sites_with_one_id(tmp_path):
    site = {"id": "a", "name": "A", "secret": LONG}
    (fault,) = document_faults(tmp_path, {"sites": [site, {**site, "name": "B"}]})
    assert fault == "sites: a is the id of more than one site"


HOOKED = {"name": "A", "secret": "s" * 32, "webhook_secret": f"whsec_{'A' * 32}"}


# --- warnings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, ["no login method"]),
        ({"wechat": FULL}, ["wechat.confirm is never"]),
        ({"wechat": {**FULL, "mode": "plain"}}, ["wechat.mode is plain", "wechat.confirm is never"]),
        ({"server": {"base_url": "http://a.example"}}, ["server.base_url is http", "no login method"]),
        ({"server": {"base_url": "https://a.example"}}, ["no login method"]),
        ({"server": {"base_url": "http://127.0.0.1:8888"}}, ["no login method"]),
        (
            {
                "wechat": {**FULL, "confirm": "always", "forward_url": "http://10.0.0.1/push"},
                "app": {"issuer": "a", "jwks_url": "http://a.example/jwks"},
                "sites": [
                    {**HOOKED, "id": "shop", "webhook_url": "http://shop.example/hook"},
                    {**HOOKED, "id": "here", "webhook_url": "http://127.0.0.1:9000/hook"},
                    {**HOOKED, "id": "safe", "webhook_url": "https://safe.example/hook"},
                ],
            },
            ["app.jwks_url is http", "wechat.forward_url is http", "sites: shop: webhook_url is http"],
        ),
    ],
    ids=str,
)
def test_warnings(tmp_path, document, words):
    warnings = config.load(written(tmp_path, document), {}).warnings
    assert len(warnings) == len(words)
    for warning, start in zip(warnings, words, strict=True):
        assert warning.startswith(start)
