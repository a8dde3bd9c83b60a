"""The QR code as SVG and PNG. Pure."""

from codes.draw import QUIET_ZONE, png, svg

__all__ = ["QUIET_ZONE", "png", "svg"]
