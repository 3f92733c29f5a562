"""A network of this machine alone, for tests that start a cluster."""

import subprocess


def on_loopback(words: list[str]) -> list[str]:
    """Wraps a command so that it sees no network but loopback, where this system allows that."""
    wrapped = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    try:
        subprocess.run([*wrapped, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return words
    return [*wrapped, *words]
