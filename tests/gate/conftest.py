"""What stands in front of a site; see tests/cluster for nginx itself."""

from tests.cluster.conftest import nginx_program

__all__ = ["nginx_program"]
