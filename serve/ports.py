"""Whether a port is free, and finding one that is."""

import errno
import socket

from lakebed.platform.errors import ConfigError, PortInUseError


def check_free(host: str, port: int, setting: str = "--port") -> None:
    """Raise PortInUseError when something listens there, ConfigError when this machine has no such address.

    `setting` is what the user would change.
    """
    try:
        with _bound(host, port):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"port {port} on {host} is in use",
                hint=f"stop what listens there, or choose another with {setting}",
            ) from None
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on at the moment."""
    with _bound(host, 0) as bound:
        port: int = bound.getsockname()[1]
    return port


def _bound(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
