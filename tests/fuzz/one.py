"""One target under atheris: `python -m tests.fuzz.one TARGET [libFuzzer's arguments]`."""

from __future__ import annotations

import sys

import atheris

atheris.enabled_hooks.add("str")  # so that it sees how near a word was

with atheris.instrument_imports(
    include=["wechat", "app", "oidc", "webhooks", "flows", "handlers", "urllib", "json", "tests.fuzz"]
):
    from tests.fuzz.second import SECOND
    from tests.fuzz.targets import TARGETS


def main() -> None:
    name = sys.argv.pop(1)
    first, second = TARGETS[name], SECOND.get(name)

    def run(data: bytes) -> None:
        first(data)
        if second is not None:
            second(data)

    # libFuzzer merges in processes of its own, which it starts by this name.
    atheris.Setup([f"{sys.executable} -m {__spec__.name} {name}", *sys.argv[1:]], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
