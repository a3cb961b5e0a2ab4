"""`heylookllm service`: the server as a service of this user, by systemd on Linux or launchd on macOS."""

import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import click

from heylook_llm.commands.state import config_folder, log_folder

UNIT: Final = "heylookllm.service"
LABEL: Final = "heylookllm.server"
_ENVIRONMENT_TEXT: Final = """\
# Variables of the heylookllm service, one NAME=value a line. Only you can read this file, so a key belongs here:
# HEYLOOK_API_KEY=...
"""


class Supervisor(Protocol):
    """What keeps a service running."""

    def install(self, options: Sequence[str]) -> Path:
        """Write the definition, begin at login; returns the file."""
        ...

    def uninstall(self) -> None:
        """Stop it and remove the definition."""
        ...

    def start(self) -> None:
        """Start it now."""
        ...

    def stop(self) -> None:
        """Stop it until the next login or start."""
        ...

    def status(self) -> int:
        """Print how it does; returns an exit status."""
        ...


def supervisor() -> Supervisor:
    """This system's. Raises ClickException where there is none that we know."""
    if sys.platform == "darwin":
        return Launchd()
    if shutil.which("systemctl"):
        return Systemd()
    raise click.ClickException("no systemd and no launchd here: run `heylookllm` under your own supervisor")


def command(options: Sequence[str]) -> list[str]:
    """The command line of the service. Raises UsageError for a key, which other users could read there."""
    if any(option.split("=")[0] == "--api-key" for option in options):
        raise click.UsageError(f"--api-key would be readable by everybody; put HEYLOOK_API_KEY=... in {variables()}")
    return [sys.executable, "-m", "heylook_llm.cli", "serve", *options]


def variables() -> Path:
    """The file of the service's environment variables."""
    return config_folder() / "service.env"


def _write_variables() -> None:
    path = variables()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(_ENVIRONMENT_TEXT, encoding="utf-8")
        path.chmod(0o600)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _run(*arguments: str) -> int:
    return subprocess.run(arguments, check=False).returncode


def _must(*arguments: str, advice: str = "") -> None:
    if status := _run(*arguments):
        raise click.ClickException(f"`{' '.join(arguments)}` failed with exit status {status}{advice}")


class Systemd:
    """A user unit of systemd."""

    @property
    def path(self) -> Path:
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return home / "systemd" / "user" / UNIT

    def install(self, options: Sequence[str]) -> Path:
        _write(self.path, unit_text(command(options)).encode())
        _write_variables()
        self._control("daemon-reload")
        self._control("enable", UNIT)
        return self.path

    def uninstall(self) -> None:
        _run("systemctl", "--user", "disable", "--now", UNIT)
        self.path.unlink(missing_ok=True)
        _run("systemctl", "--user", "daemon-reload")

    def start(self) -> None:
        self._control("start", UNIT)

    def stop(self) -> None:
        self._control("stop", UNIT)

    def status(self) -> int:
        return _run("systemctl", "--user", "--no-pager", "status", UNIT)

    def _control(self, *arguments: str) -> None:
        if not self.path.exists():
            raise click.ClickException("the service isn't installed: heylookllm service install")
        _must(
            *("systemctl", "--user", *arguments),
            advice=". It needs a login of this user: log in as yourself, not by su or sudo, and try again",
        )


def unit_text(arguments: Sequence[str]) -> str:
    """The unit. Exit status 2 means the configuration is wrong, which a restart doesn't mend."""
    return f"""\
[Unit]
Description=heylookllm, a local model server
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=exec
ExecStart={" ".join(map(_unit_word, arguments))}
EnvironmentFile=-{_unit_path(variables())}
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2
TimeoutStopSec=60
KillMode=mixed
LimitNOFILE=65536
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


def _unit_word(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _unit_path(path: Path) -> str:
    return str(path).replace("%", "%%")


class Launchd:
    """A launch agent of macOS."""

    @property
    def path(self) -> Path:
        return Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"

    @property
    def _domain(self) -> str:
        return f"gui/{os.getuid()}"

    def install(self, options: Sequence[str]) -> Path:
        _write_variables()
        _write(self.path, plist(command(options), log_folder() / "service.log"))
        return self.path

    def uninstall(self) -> None:
        _run("launchctl", "bootout", f"{self._domain}/{LABEL}")
        self.path.unlink(missing_ok=True)

    def start(self) -> None:
        if not self.path.exists():
            raise click.ClickException("the service isn't installed: heylookllm service install")
        if _run("launchctl", "print", f"{self._domain}/{LABEL}"):
            _must("launchctl", "bootstrap", self._domain, str(self.path))
        _must("launchctl", "kickstart", f"{self._domain}/{LABEL}")

    def stop(self) -> None:
        _must("launchctl", "bootout", f"{self._domain}/{LABEL}")

    def status(self) -> int:
        return _run("launchctl", "print", f"{self._domain}/{LABEL}")


def plist(arguments: Sequence[str], log: Path) -> bytes:
    """The agent. launchd reads no file of variables, so a shell does, and becomes the server."""
    script = 'set -a; [ -f "$0" ] && . "$0"; exec "$@"'
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": ["/bin/sh", "-c", script, str(variables()), *arguments],
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 10,
            "ExitTimeOut": 60,
            "ProcessType": "Interactive",
            "SoftResourceLimits": {"NumberOfFiles": 65536},
            "StandardOutPath": str(log),
            "StandardErrorPath": str(log),
        }
    )
