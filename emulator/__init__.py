"""WeChat's platform and a phone, played on loopback: for the demo and for the tests.

`platform.py` is the platform's state without any IO, `delivery.py` posts to the callback, `phone.py` is what
people do, `own_app.py` is the team's own app on their phones, `app.py` serves it all, `server.py` starts it
on a port.
"""

from emulator.delivery import Attempt, Courier, Outcome, Push
from emulator.own_app import AppBackend, AppScreen
from emulator.people import Disclosure, Entry, Person
from emulator.phone import Phone
from emulator.platform import Account, ApiError, Code, Platform
from emulator.server import Emulator

__all__ = [
    "Account",
    "ApiError",
    "AppBackend",
    "AppScreen",
    "Attempt",
    "Code",
    "Courier",
    "Disclosure",
    "Emulator",
    "Entry",
    "Outcome",
    "Person",
    "Phone",
    "Platform",
    "Push",
]
