"""Settings: the YAML file, with SAOMA_* of the environment over it, as frozen typed values.

All faults are reported at once, each with its path and what it should be. An environment variable
`SAOMA_SECTION_KEY` overrides one value; `SAOMA_SECTION_KEY_FILE` names a file that holds it.
"""

from config.faults import FaultySettings
from config.loading import load, setting_names
from config.secret_key import read_secret_key, secret_key_path
from config.sections import Settings

__all__ = ["FaultySettings", "Settings", "load", "read_secret_key", "secret_key_path", "setting_names"]
