"""A real sshd on loopback, with keys of its own: a device that is reached over the network."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.ports import free_port


def sshd_program() -> str | None:
    """Where OpenSSH's server is, if it is installed."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return found if found and shutil.which("ssh") and shutil.which("scp") and shutil.which("ssh-keygen") else None


class Sshd:
    """Runs until `stop`; `bin` holds an `ssh` and `scp` that use the test's own key and known hosts."""

    def __init__(self, program: str, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        for name in ("host", "user"):
            self._run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
        keys = folder / "authorized_keys"
        shutil.copyfile(folder / "user.pub", keys)
        for private in (keys, folder / "host", folder / "user"):
            private.chmod(0o600)
        self.known_hosts = folder / "known_hosts"
        host_key = (folder / "host.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {host_key}")
        config = folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nAuthorizedKeysFile {keys}\n"
            f"PidFile {folder / 'pid'}\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\n"
            "UsePAM no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
            f"SetEnv XDG_CACHE_HOME={folder / 'cache'}\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it
        with (folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                [program, "-D", "-e", "-f", str(config)], stdout=subprocess.DEVNULL, stderr=log
            )
        self._wait()
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("ssh", "scp"):
            real = shutil.which(name)
            script = self.bin / name
            script.write_text(
                f"#!/bin/sh\nexec {real} -F none -o IdentitiesOnly=yes -o IdentityFile={folder / 'user'} "
                f'-o UserKnownHostsFile={self.known_hosts} "$@"\n'
            )
            script.chmod(0o755)

    @property
    def kits(self) -> Path:
        """Where kits lie on the device."""
        return self.folder / "cache" / "mobilenas" / "kits"

    @property
    def url(self) -> str:
        """The address of this device."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    def _run(self, *command: str | Path) -> None:
        subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=1200)

    def _wait(self) -> None:
        for _ in range(1200):
            with socket.socket() as opened:
                if opened.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"sshd does not answer: {(self.folder / 'log').read_text()}")

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(timeout=1200)
