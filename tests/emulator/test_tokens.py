"""Access tokens of both kinds."""

import pytest

from emulator import ApiError, Platform
from emulator.platform import FORCED_REFRESHES_A_DAY
from tests.clock import Clock
from tests.emulator.server import APPID, SECRET

GRANT = "client_credential"


def ordinary(platform: Platform) -> str:
    return str(platform.fetch_token(GRANT, APPID, SECRET)["access_token"])


def stable(platform: Platform, force_refresh: bool = False) -> str:
    return str(platform.fetch_stable_token(GRANT, APPID, SECRET, force_refresh)["access_token"])


def refusal(platform: Platform, token: str) -> int:
    """The errcode that the token is refused with, 0 if it is good."""
    try:
        platform.require_token(token)
    except ApiError as error:
        return error.errcode
    return 0


def test_each_ordinary_fetch_makes_a_new_token_and_leaves_the_former_five_minutes(
    platform: Platform, clock: Clock
) -> None:
    first, second = ordinary(platform), ordinary(platform)
    assert first != second
    clock.seconds += 299
    assert refusal(platform, first) == 0
    clock.seconds += 1
    assert refusal(platform, first) == 40001
    assert refusal(platform, second) == 0


def test_a_replaced_token_does_not_get_new_time_by_another_fetch(platform: Platform, clock: Clock) -> None:
    first = ordinary(platform)
    ordinary(platform)
    clock.seconds += 200
    ordinary(platform)
    clock.seconds += 100
    assert refusal(platform, first) == 40001


def test_a_token_expires_after_two_hours(platform: Platform, clock: Clock) -> None:
    answer = platform.fetch_token(GRANT, APPID, SECRET)
    assert answer["expires_in"] == 7200
    clock.seconds += 7199
    assert refusal(platform, answer["access_token"]) == 0
    clock.seconds += 1
    assert refusal(platform, answer["access_token"]) == 42001


def test_the_stable_token_stays_and_its_expiry_comes_nearer(platform: Platform, clock: Clock) -> None:
    first = stable(platform)
    clock.seconds += 1000
    assert platform.fetch_stable_token(GRANT, APPID, SECRET) == {"access_token": first, "expires_in": 6200}


def test_the_stable_token_is_renewed_before_its_end_and_the_former_lives_on(
    platform: Platform, clock: Clock
) -> None:
    first = stable(platform)
    clock.seconds += 6901
    assert stable(platform) != first
    assert refusal(platform, first) == 0
    clock.seconds += 299
    assert refusal(platform, first) == 42001


def test_a_forced_refresh_voids_the_former_at_once(platform: Platform) -> None:
    first = stable(platform)
    second = stable(platform, force_refresh=True)
    assert refusal(platform, first) == 40001
    assert refusal(platform, second) == 0
    assert stable(platform) == second


def test_forced_refreshes_are_rare(platform: Platform, clock: Clock) -> None:
    for _ in range(FORCED_REFRESHES_A_DAY):
        stable(platform, force_refresh=True)
        with pytest.raises(ApiError, match="45011"):
            stable(platform, force_refresh=True)
        clock.seconds += 30
    with pytest.raises(ApiError, match="45009"):
        stable(platform, force_refresh=True)


def test_the_two_kinds_leave_each_other_alone(platform: Platform, clock: Clock) -> None:
    first_stable, first_ordinary = stable(platform), ordinary(platform)
    ordinary(platform)
    stable(platform, force_refresh=True)
    assert refusal(platform, first_ordinary) == 0
    assert refusal(platform, first_stable) == 40001
    clock.seconds += 1000
    second_stable = stable(platform)
    ordinary(platform)
    assert refusal(platform, second_stable) == 0


def test_a_shorter_life_shortens_everything(platform: Platform, clock: Clock) -> None:
    platform.token_lifetime = 3
    first = platform.fetch_stable_token(GRANT, APPID, SECRET)
    assert first["expires_in"] == 3
    clock.seconds += 1
    assert stable(platform) == first["access_token"]
    clock.seconds += 2
    assert refusal(platform, first["access_token"]) == 42001


@pytest.mark.parametrize(
    ("grant", "appid", "secret", "errcode"),
    [
        ("password", APPID, SECRET, 40002),
        (GRANT, "", SECRET, 41002),
        (GRANT, APPID, "", 41004),
        (GRANT, "wx0", SECRET, 40013),
        (GRANT, APPID, "wrong", 40125),
    ],
)
def test_wrong_credentials_have_their_codes(
    platform: Platform, grant: str, appid: str, secret: str, errcode: int
) -> None:
    for fetch in (platform.fetch_token, platform.fetch_stable_token):
        with pytest.raises(ApiError) as caught:
            fetch(grant, appid, secret)
        assert caught.value.errcode == errcode


def test_missing_and_unknown_tokens(platform: Platform) -> None:
    assert refusal(platform, "") == 41001
    assert refusal(platform, "made-up") == 40001


def test_tokens_expire_and_are_revoked_on_demand(platform: Platform) -> None:
    token = stable(platform)
    platform.expire_tokens()
    assert refusal(platform, token) == 42001
    platform.revoke_tokens()
    assert refusal(platform, token) == 40001
    assert refusal(platform, stable(platform)) == 0
