"""The QR code as SVG and PNG. Pure."""

from codes.draw import png, svg, version_of
from codes.writer import QUIET_ZONE

__all__ = ["QUIET_ZONE", "png", "svg", "version_of"]
