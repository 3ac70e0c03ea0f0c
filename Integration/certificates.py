"""Certificates for tests, made with the program openssl: authorities, and what they sign."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


def openssl(*arguments: str | Path) -> None:
    result = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    crt: Path
    key: Path


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self.name = name
        self.crt = folder / f"{name}.crt"
        self.key = folder / f"{name}.key"
        self._make_key(self.key, "ec")
        openssl("req", "-x509", "-new", "-key", self.key, "-subj", f"/CN={name}", "-days", "30", "-out", self.crt)

    @staticmethod
    def _make_key(path: Path, kind: str) -> None:
        options = {"ec": ("EC", "ec_paramgen_curve:prime256v1"), "rsa": ("RSA", "rsa_keygen_bits:2048")}[kind]
        openssl("genpkey", "-algorithm", options[0], "-pkeyopt", options[1], "-out", path)
        path.chmod(0o600)

    def issue(self, file: str, *, name: str, hosts: str = "", days: int = 30, kind: str = "ec",
              digest: str = "sha256") -> Certificate:
        """A certificate for the common name; `hosts` is a subjectAltName such as "DNS:a,IP:127.0.0.1".

        With -1 days it has expired.
        """
        made = Certificate(self.folder / f"{file}.crt", self.folder / f"{file}.key")
        request = self.folder / f"{file}.csr"
        extensions = self.folder / f"{file}.ext"
        self._make_key(made.key, kind)
        openssl("req", "-new", "-key", made.key, "-subj", f"/CN={name}", "-out", request)
        extensions.write_text("basicConstraints=CA:FALSE\n" + (f"subjectAltName={hosts}\n" if hosts else ""))
        openssl("x509", "-req", "-in", request, "-CA", self.crt, "-CAkey", self.key, "-CAcreateserial",
                "-days", str(days), f"-{digest}", "-extfile", extensions, "-out", made.crt)
        return made
