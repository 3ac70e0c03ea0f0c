"""A throw-away directory: OpenLDAP's slapd with a few people in it."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

from certificates import Certificate
from common import as_service_user, environment, free_port, own, remove, service_directory, wait_until

SLAPD = Path("/usr/sbin/slapd")
ROOT = "dc=example,dc=net"
# Who may search, beside everybody; may be told to be alone in that.
READER = f"cn=reader,{ROOT}"
READER_PASSWORD = 'reader, "secret" #1'


def escaped(value: str) -> str:
    """A value in the name of an entry (RFC 4514)."""
    return "".join("\\" + each if each in ',+"\\<>;=#' else each for each in value)


def name(uid: str, unit: str = "people") -> str:
    """The name of a person's entry."""
    return f"uid={escaped(uid)},ou={unit},{ROOT}"


class Directory:
    """A running slapd. `people` are names and passwords; `twins` stand in two units each."""

    def __init__(self, people: dict[str, str], *, twins: dict[str, str] | None = None,
                 certificate: Certificate | None = None, only_reader: bool = False) -> None:
        self.people, self.twins = people, twins or {}
        self.host = "127.0.0.1"
        self.port, self.tls_port = free_port(), free_port()
        self.folder = service_directory("ml-")
        self.log = self.folder / "slapd.log"
        self.process: subprocess.Popen[bytes] | None = None
        (self.folder / "data").mkdir()
        self._write(certificate, only_reader)
        own(self.folder)
        loaded = subprocess.run(
            as_service_user(["/usr/sbin/slapadd", "-f", str(self.folder / "slapd.conf"), "-l",
                             str(self.folder / "people.ldif")]), capture_output=True, text=True, cwd="/")
        assert loaded.returncode == 0, loaded.stderr
        self.has_tls = certificate is not None

    def _write(self, certificate: Certificate | None, only_reader: bool) -> None:
        lines = [f"include /etc/ldap/schema/{schema}.schema" for schema in ("core", "cosine", "inetorgperson")]
        lines += ["modulepath /usr/lib/ldap", "moduleload back_mdb", f"pidfile {self.folder}/slapd.pid"]
        if certificate:
            for file, option in ((certificate.crt, "TLSCertificateFile"), (certificate.key, "TLSCertificateKeyFile")):
                copy = self.folder / file.name
                copy.write_bytes(file.read_bytes())
                lines.append(f"{option} {copy}")
        lines += [
            "database mdb", "maxsize 16777216", f'suffix "{ROOT}"', f"directory {self.folder}/data",
            "access to attrs=userPassword by anonymous auth",
            f'access to * by dn.exact="{READER}" read by {"anonymous auth" if only_reader else "* read"}']
        (self.folder / "slapd.conf").write_text("".join(line + "\n" for line in lines))
        entries = [
            {"dn": ROOT, "objectClass": ["dcObject", "organization"], "dc": "example", "o": "example"},
            {"dn": READER, "objectClass": ["organizationalRole", "simpleSecurityObject"], "cn": "reader",
             "userPassword": READER_PASSWORD}]
        entries += [{"dn": f"ou={unit},{ROOT}", "objectClass": ["organizationalUnit"], "ou": unit}
                    for unit in ("people", "others")]
        for unit, people in (("people", self.people | self.twins), ("others", self.twins)):
            entries += [
                {"dn": name(uid, unit), "objectClass": ["inetOrgPerson"], "uid": uid, "cn": uid, "sn": uid,
                 "mail": f"{uid}@example.net", "userPassword": password} for uid, password in people.items()]
        (self.folder / "people.ldif").write_text("\n".join(map(self._ldif, entries)))

    @staticmethod
    def _ldif(entry: dict[str, str | list[str]]) -> str:
        return "".join(
            f"{key}: {value}\n" for key, values in entry.items()
            for value in (values if isinstance(values, list) else [values]))

    def start(self) -> Directory:
        assert self.process is None
        places = f"ldap://{self.host}:{self.port}/"
        if self.has_tls:
            places += f" ldaps://{self.host}:{self.tls_port}/"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                as_service_user([str(SLAPD), "-d", "0", "-f", str(self.folder / "slapd.conf"), "-h", places]),
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment(), cwd="/", start_new_session=True)

        def answers() -> bool:
            assert self.process and self.process.poll() is None, f"slapd ended:\n{self.log.read_text()}"
            try:
                socket.create_connection((self.host, self.port), 1).close()
                return True
            except OSError:
                return False

        wait_until(answers, "slapd accepts connections")
        return self

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def remove(self) -> None:
        self.stop()
        remove(self.folder)

    # Options of method ldap

    @property
    def server(self) -> str:
        return f"ldapserver={self.host} ldapport={self.port}"

    @property
    def simple(self) -> str:
        return f'{self.server} ldapprefix="uid=" ldapsuffix=",ou=people,{ROOT}"'

    @property
    def search(self) -> str:
        return f'{self.server} ldapbasedn="{ROOT}"'

    @property
    def searcher(self) -> str:
        password = READER_PASSWORD.replace('"', '""')
        return f'ldapbinddn="{READER}" ldapbindpasswd="{password}"'
