"""Reaching a cluster: an address where nothing listens is said at once."""

import socket

import pytest

from lakebed.platform.cluster import require_listener
from lakebed.platform.errors import UnreachableError


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_nothing_listening_is_unreachable(free_port: int, form: str) -> None:
    with pytest.raises(UnreachableError, match="Connection refused"):
        require_listener(form.format(free_port))


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "no-such-host.invalid:6379"])
def test_an_address_that_cannot_be_is_unreachable(address: str) -> None:
    with pytest.raises(UnreachableError, match="no Ray cluster answers"):
        require_listener(address)


def test_a_listener_is_enough_and_auto_is_left_to_ray() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        require_listener(f"127.0.0.1:{server.getsockname()[1]}")
    require_listener("auto")
