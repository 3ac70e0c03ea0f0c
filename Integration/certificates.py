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
              digest: str = "sha256", subject: str = "", raw_name: bytes | None = None) -> Certificate:
        """A certificate for the common name; `hosts` is a subjectAltName such as "DNS:a,IP:127.0.0.1".

        With -1 days it has expired. `subject` is all of it, such as "/O=x"; `raw_name` is a common name of these bytes,
        which openssl's own notation has no words for.
        """
        made = Certificate(self.folder / f"{file}.crt", self.folder / f"{file}.key")
        request = self.folder / f"{file}.csr"
        extensions = self.folder / f"{file}.ext"
        self._make_key(made.key, kind)
        openssl("req", "-new", "-key", made.key, "-subj", subject or f"/CN={name}", "-out", request)
        extensions.write_text("basicConstraints=CA:FALSE\n" + (f"subjectAltName={hosts}\n" if hosts else ""))
        openssl("x509", "-req", "-in", request, "-CA", self.crt, "-CAkey", self.key, "-CAcreateserial",
                "-days", str(days), f"-{digest}", "-extfile", extensions, "-out", made.crt)
        if raw_name is not None:
            self._rename(made, raw_name)
        return made

    def _rename(self, made: Certificate, name: bytes) -> None:
        """Makes these bytes the subject's common name, and signs anew."""
        whole = Path(f"{made.crt}.der")
        openssl("x509", "-in", made.crt, "-outform", "DER", "-out", whole)
        body, algorithm, _ = _children(whole.read_bytes())
        fields = _children(body)
        # Behind version, number, algorithm, issuer and validity. A set of one attribute: its type, and an UTF8String.
        attribute = b"\x06\x03\x55\x04\x03" + _encode(0x0C, name)
        fields[5] = _encode(0x30, _encode(0x31, _encode(0x30, attribute)))
        body = _encode(0x30, b"".join(fields))
        unsigned, signature = Path(f"{made.crt}.body"), Path(f"{made.crt}.signature")
        unsigned.write_bytes(body)
        openssl("dgst", "-sha256", "-sign", self.key, "-out", signature, unsigned)
        whole.write_bytes(_encode(0x30, body + algorithm + _encode(0x03, b"\0" + signature.read_bytes())))
        openssl("x509", "-inform", "DER", "-in", whole, "-out", made.crt)


def _encode(tag: int, value: bytes) -> bytes:
    """An element of DER."""
    if len(value) < 0x80:
        return bytes([tag, len(value)]) + value
    length = len(value).to_bytes((len(value).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + value


def _children(element: bytes) -> list[bytes]:
    """The elements inside an element of DER."""
    def header(at: int) -> tuple[int, int]:
        """Where the value begins and ends."""
        size = element[at + 1]
        if size < 0x80:
            return at + 2, at + 2 + size
        count = size & 0x7F
        return at + 2 + count, at + 2 + count + int.from_bytes(element[at + 2:at + 2 + count], "big")

    at, end = header(0)
    found = []
    while at < end:
        following = header(at)[1]
        found.append(element[at:following])
        at = following
    return found
