"""Arrive on a worker by ssh, with everything that a launch needs, and stay when the connection goes.

The text of this module is the first thing that a server sends to the standard input of a bare Python there; an order
and its files follow. So nothing has to be installed on the worker, and nothing of a launch is on a command line but
the launcher's own arguments. A *keeper*, detached from the connection, starts the launcher, passes its output on while
somebody listens, and removes what was unpacked when it ended. Where the server asks for it, it has a *relay* beside it.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Dict, NoReturn

    Order = Dict[str, Any]

PREFIX = "elyra-landing-"
LOCK = "keeper"
"""A file in the directory of a launch with its keeper's process in it. What the keeper holds locked is the directory
itself: that is what systemd-tmpfiles looks at, before it cleans up."""

WORD = "end"
"""A file there with how the launch ended, for a server that was not told."""

WORD_KEPT, LOST_WORD_KEPT = 60.0, 8.0
"""Seconds for which it stays there until the server fetches it; the latter where the server itself seems to be gone."""

TAIL = 16384
"""Bytes of output of which the last lines are told."""

SET_CHILD_SUBREAPER = 36
"""Of prctl(2): what a process of the launch leaves behind becomes the keeper's child."""

MARK = "ELYRA_LANDING"
"""A variable with the directory of the launch, by which all its processes are known where the keeper is gone."""

PLACE = "\0place\0"
"""Stands for the directory of the launch in its arguments and variables."""

ABANDONED = 60.0
"""Seconds after which a directory without a keeper is nobody's."""

PATIENCE = 4.0
"""Seconds from SIGTERM to SIGKILL."""

PASSES = 100
"""How often is looked again for processes to kill, as they may have started others meanwhile."""

DRAIN = 0.2
LINES = 40

UNREACHABLE, REJECTED = 69, 75
"""What a launcher ends with whose server is gone, or does not know it any more."""

RELAYS = 5
"""How many relays a launch may use up."""

QUIET = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE)


class LandingError(Exception):
    """The launch cannot begin here; `host` says whether that is because of the host, so that another may do."""

    def __init__(self, message: str, host: bool) -> None:
        super().__init__(message)
        self.host = host


class Reporter:
    """Tells the server how it goes, in lines that no shell's greeting can be taken for."""

    def __init__(self, token: str) -> None:
        self._token = token

    def say(self, **news: Any) -> bool:
        """Tell it, and return whether somebody listens."""
        line = f"\n{self._token} {json.dumps(news)}\n"
        try:
            return bool(os.write(1, line.encode()))
        except OSError:  # nobody listens any more
            return False


def main(stream: BinaryIO) -> None:
    """Carry out the one order that comes in."""
    order = json.loads(stream.readline())
    reporter = Reporter(order["token"])
    try:
        if order["order"] == "launch":
            launch(order, stream, reporter)
        elif order["order"] == "succeed":
            reporter.say(sshd=find_sshd(), gone=end_sshd(*order["sshd"]))
        elif order["order"] == "end":
            reporter.say(gone=end(place_of(order), order["grace"], order["patience"]))
        elif order["order"] == "read":
            reporter.say(content=read(place_of(order), order["file"]))
        else:
            reporter.say(**look(place_of(order)))
    except LandingError as error:
        reporter.say(failed=str(error), host=error.host)


def launch(order: Order, stream: BinaryIO, reporter: Reporter) -> None:
    """Unpack what came and leave a keeper behind; this process itself ends."""
    import zlib

    packed = stream.read(order["packed"])
    if len(packed) < order["packed"]:
        raise LandingError("the connection broke before all of the launch was there", host=True)
    base = choose_base()
    remove_abandoned(base)
    directory = os.path.join(base, order["name"])
    try:
        os.mkdir(directory, 0o700)
        unpack(order["files"], zlib.decompress(packed), directory)
    except OSError as error:
        remove(directory)
        raise LandingError(f"{base} cannot take the launcher's files: {error.strerror}", host=True) from error
    try:
        log = open_log(order)
    except OSError as error:
        remove(directory)
        raise LandingError(
            f"the launch log {error.filename} cannot be written: {error.strerror}", host=False
        ) from error
    signal.alarm(0)  # which the server's first line set, should nothing more come
    sys.stdout.flush()
    sshd = find_sshd()
    try:
        child = os.fork()
    except OSError as error:
        remove(directory)
        raise LandingError(f"no process can be started: {error.strerror}", host=True) from error
    if child:
        return
    Keeper(order, directory, log, reporter, sshd).run()


def choose_base() -> str:
    """Return where launches are unpacked: where files can be executed, if there is such a place."""
    usual, cache = bases()
    for place in (usual, cache):
        try:
            if place == cache:
                os.makedirs(cache, 0o700, exist_ok=True)
            if not os.statvfs(place).f_flag & os.ST_NOEXEC and os.access(place, os.W_OK):
                return place
        except OSError:
            continue
    return usual


def bases() -> tuple[str, str]:
    """Return where launches may be unpacked, the usual place first."""
    return os.environ.get("TMPDIR") or "/tmp", os.path.expanduser("~/.cache")


def place_of(order: Order) -> str:
    """Return the directory of a launch, of which the server may know the name alone."""
    places = [os.path.join(base, order["directory"]) for base in bases()]
    return next((place for place in places if os.path.isdir(place)), places[0])


def unpack(files: list[tuple[str, int, int]], content: bytes, directory: str) -> None:
    """Write the files that follow the order."""
    begin = 0
    for name, mode, size in files:
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        with open(path, "xb") as file:
            file.write(content[begin : begin + size])
            os.fchmod(file.fileno(), mode & 0o700)
        begin += size


def open_log(order: Order) -> int:
    """Return where all output goes, as the server's operator said; -1 for nowhere."""
    place = os.path.expanduser(order["log"])
    if place in ("", os.devnull):
        return -1
    if order["log_is_directory"] or os.path.isdir(place):
        os.makedirs(place, 0o700, exist_ok=True)
        place = os.path.join(place, f"kernel-{order['kernel_id']}.log")
    # A pipe must not hold up the launch, nor be filled by it.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    log = os.open(place, flags, 0o600)
    status = os.fstat(log)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
        os.close(log)
        raise OSError(0, "it is no file of this user's", place)
    os.fchmod(log, 0o600)
    return log


class Keeper:
    """The process that a launch leaves on the worker: the parent of its launcher.

    Parameters
    ----------
    order : dict
        The launch.
    directory : str
        Where it was unpacked.
    log : int
        Descriptor for all output, or -1.
    reporter : Reporter
        For the server, as long as it listens.
    sshd : (int, int)
        Through which it came.
    """

    def __init__(self, order: Order, directory: str, log: int, reporter: Reporter, sshd: tuple[int, int]) -> None:
        self._order = order
        self._directory = directory
        self._log = log
        self._reporter = reporter
        self._listener = 2
        self._kill_at = 0.0
        self._sshd = sshd
        self._carriers: Any = None
        self._relay = 0
        self._relays = 0
        self._tail = b""

    def run(self) -> NoReturn:
        """Keep the launcher until it ended."""
        try:
            self._detach()
            fcntl.flock(os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_EX)
            with open(os.path.join(self._directory, LOCK), "w", encoding="ascii") as file:
                file.write(str(os.getpid()))
            wake = self._handle_signals()
            port = self._start_relay()
            output, pid = self._spawn()
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing stays
            name = self._order["argv"][0].replace(PLACE, self._directory)
            reason = getattr(error, "strerror", None) or repr(error)
            if isinstance(error, PermissionError) and os.statvfs(self._directory).f_flag & os.ST_NOEXEC:
                reason += "; its file system is mounted noexec: set TMPDIR there to a directory of another one"
            self._reporter.say(failed=f"{name} cannot be run: {reason}", host=is_of_host(error))
            send(self._relay, signal.SIGKILL)
            remove(self._directory)
            os._exit(1)
        self._reporter.say(started=os.getpid(), directory=self._directory, relay=port, sshd=self._sshd)
        attempt(adopt_orphans)
        status = self._wait(pid, output, wake)
        end_session()
        end_children()
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        told = self._tell_end(code, wake)
        remove(self._directory)
        if not told and code == UNREACHABLE:
            # The server is gone. Nobody may tell the sshd through which it came, and it would stay for hours. Should
            # its connection be of use all the same, it is made again.
            end_sshd(*self._sshd)
        os._exit(0)

    def _tell_end(self, code: int, wake: int) -> bool:
        """Tell the server how it ended, now or when it asks; return whether it knows."""
        lines = self._tail.decode("utf-8", "replace").splitlines()[-LINES:]
        if self._carriers is not None:
            self._carriers.close()
        remove(self._directory, LOCK)
        left = attempt(leave_word, self._directory, {"ended": code, "lines": lines})
        heard = self._reporter.say(ended=code)
        if self._kill_at or not left:
            return bool(self._kill_at) or heard
        watched = select.poll()
        watched.register(wake, select.POLLIN)
        if heard:
            watched.register(1, 0)  # which tells when the other end is closed
        deadline = time.monotonic() + (LOST_WORD_KEPT if code in (UNREACHABLE, REJECTED) else WORD_KEPT)
        while time.monotonic() < deadline:
            for descriptor, _ in watched.poll(max(deadline - time.monotonic(), 0.0) * 1000):
                if descriptor == 1:
                    watched.unregister(1)
                    if self._sshd_lives():  # so the server itself hung up, and heard it before
                        return True
                elif signal.SIGTERM in os.read(wake, 4096):
                    return True
        return False

    def _sshd_lives(self) -> bool:
        time.sleep(DRAIN)  # a process that ends closes its pipes first
        pid, begin = self._sshd
        return not pid or process_of(pid)[2] == begin

    def _detach(self) -> None:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.close(null)
        os.set_blocking(2, False)

    def _handle_signals(self) -> int:
        """Return a descriptor that can be read when a signal came."""
        read, write = os.pipe()
        for descriptor in (read, write):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: None)
        for signum in QUIET:
            signal.signal(signum, signal.SIG_IGN)
        return read

    def _start_relay(self) -> int:
        """Start the relay, if there is to be one; return its port."""
        if not self._order["relay"]:
            return 0
        if self._relays == RELAYS:  # nobody takes what comes to its port
            self._carriers.close()
            return 0
        self._relays += 1
        if self._package not in sys.path:
            sys.path.insert(0, self._package)
        from elyra_launcher import relay

        self._carriers = self._carriers or relay.listen()
        self._relay = os.fork()
        if not self._relay:
            relay.run(self._carriers, self._order["relay"])
        return int(self._carriers.getsockname()[1])

    @property
    def _package(self) -> str:
        """Where the launcher can be imported from."""
        return str(self._order["package"]).replace(PLACE, self._directory)

    def _spawn(self) -> tuple[int, int]:
        """Start the launch command; return its output and its process."""
        own = {name: text.replace(PLACE, self._directory) for name, text in self._order["env"].items()}
        environ = {**os.environ, **own, MARK: self._directory}
        # The launcher can be imported in whatever way the command wants it.
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (self._package, environ.get("PYTHONPATH"))))
        if any(name.startswith("SPARK_") for name in own):
            environ["SPARK_SUBMIT_OPTS"] = keep_spark_here(environ.get("SPARK_SUBMIT_OPTS", ""), self._directory)
        os.environ["PATH"] = environ.get("PATH", os.defpath)  # where the command is looked for
        argv = [word.replace(PLACE, self._directory) for word in self._order["argv"]]
        output, write = os.pipe()
        pid = os.posix_spawnp(
            argv[0],
            argv,
            environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, write, 1), (os.POSIX_SPAWN_DUP2, write, 2)],
            setpgroup=0,
            setsigdef=[*QUIET, signal.SIGTERM, signal.SIGCHLD],
        )
        os.close(write)
        return output, pid

    def _wait(self, pid: int, output: int, wake: int) -> int:
        """Pass output on until the launcher ended; return how."""
        watched = {output, wake}
        while True:
            left = self._kill_at - time.monotonic() if self._kill_at else None
            ready, _, _ = select.select(watched, [], [], None if left is None else max(left, 0.0))
            if output in ready and not self._pass_on(output):
                watched.discard(output)
            if wake in ready and signal.SIGTERM in os.read(wake, 4096) and not self._kill_at:
                self._kill_at = time.monotonic() + PATIENCE
                send(-pid, signal.SIGTERM)
            if left is not None and left <= 0:
                end_session()
                self._kill_at = time.monotonic() + PATIENCE
            ended = reap()
            if self._relay in ended:
                self._relay = 0
                attempt(self._start_relay)
            if pid in ended:
                while output in watched and select.select([output], [], [], DRAIN)[0] and self._pass_on(output):
                    pass
                return ended[pid]

    def _pass_on(self, output: int) -> bool:
        data = os.read(output, 65536)
        self._tail = (self._tail + data)[-TAIL:]
        for target in (self._log, self._listener):
            try:
                if target >= 0:
                    os.write(target, data)
            except BlockingIOError:  # a server that does not keep up misses something
                continue
            except OSError:  # the disk is full, or nobody listens any more
                self._log, self._listener = (-1 if each == target else each for each in (self._log, self._listener))
        return bool(data)


def keep_spark_here(options: str, directory: str) -> str:
    """Return spark-submit's JVM options by which what Spark leaves, when it is killed, goes with the launch.

    Others that name a place come later, and hold.
    """
    if any(each.isspace() or each in "'\"\\" for each in directory):
        return options
    return f"-Djava.io.tmpdir={directory} {options}".rstrip()


def end(directory: str, grace: float, patience: float) -> bool:
    """See a launch end: by itself in `grace` seconds, ended in `patience`; say whether it is gone."""
    begin = time.monotonic()
    asked = False
    while has_keeper(directory):
        if not asked and (time.monotonic() - begin >= grace or word_of(directory)):
            send(keeper_of(directory), signal.SIGTERM)
            asked = True
        if time.monotonic() - begin > grace + patience:
            return False
        time.sleep(0.05)
    if os.path.isdir(directory):
        end_marked(directory)
        remove(directory)
    return True


def look(directory: str) -> dict[str, Any]:
    """Return whether a launch is over, and what it left to say of that, which goes once it was asked for."""
    word = word_of(directory)
    if word and has_keeper(directory):
        send(keeper_of(directory), signal.SIGTERM)
    return {"gone": bool(word) or not has_keeper(directory), **word}


def leave_word(directory: str, word: dict[str, Any]) -> None:
    """Write how a launch ended, all of it at once."""
    path = os.path.join(directory, WORD)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(word, file)
    os.rename(f"{path}.new", path)


def word_of(directory: str) -> dict[str, Any]:
    """Return how a launch ended; empty as long as it did not."""
    try:
        with open(os.path.join(directory, WORD), encoding="utf-8") as file:
            return dict(json.load(file))
    except (OSError, ValueError):
        return {}


def read(directory: str, name: str) -> str:
    """Return what is in a file of a launch."""
    path = os.path.join(directory, os.path.basename(name))
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise LandingError(f"{path} cannot be read: {error.strerror}", host=False) from error


def has_keeper(directory: str) -> bool:
    """Say whether the keeper of a directory lives."""
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def keeper_of(directory: str) -> int:
    """Return the process of a directory's keeper; 0 if there was none."""
    try:
        with open(os.path.join(directory, LOCK), encoding="ascii") as file:
            return int(file.read() or 0)
    except (OSError, ValueError):
        return 0


def is_of_host(error: Exception) -> bool:
    """Say whether other launches would fail on this host as well, and another host may do."""
    import errno

    wanting = ("ENOSPC", "EDQUOT", "EAGAIN", "ENOMEM", "EMFILE", "ENFILE", "EROFS", "EIO")
    return isinstance(error, OSError) and error.errno in [getattr(errno, name) for name in wanting]


def adopt_orphans() -> None:
    """Become the parent of what processes of the launch leave behind, where the system can do that."""
    import ctypes

    try:
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except AttributeError:  # not Linux
        return


def reap() -> dict[int, int]:
    """Return the children that ended, each with how; those that were adopted must not stay as zombies."""
    ended: dict[int, int] = {}
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return ended
            ended[pid] = status
    except ChildProcessError:
        return ended


def end_children() -> None:
    """Kill all that this process is the parent of, and what then becomes its child."""
    own = os.getpid()
    for _ in range(PASSES):
        children = [pid for pid in processes() if process_of(pid)[1] == own]
        if not children:
            return
        for pid in children:
            send(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def end_session() -> None:
    """Kill what is left of this process's session, but for itself."""
    own = os.getpid()
    for pid in processes():
        try:
            if pid != own and os.getsid(pid) == own:
                send(pid, signal.SIGKILL)
        except OSError:  # it ended meanwhile
            continue


def end_marked(directory: str) -> None:
    """Kill what is left of a launch without a keeper, in whatever session it is."""
    wanted = os.fsencode(f"{MARK}={directory}")
    for _ in range(PASSES):
        found = [pid for pid in processes() if wanted in environment_of(pid).split(b"\0")]
        if not found:
            return
        for pid in found:
            send(pid, signal.SIGKILL)
        time.sleep(0.01)


def processes() -> list[int]:
    """Return all processes, where the system can tell."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()] if os.path.isdir("/proc") else []


def environment_of(pid: int) -> bytes:
    """Return the variables of a process; empty if it ended, or is another user's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            return environ.read()
    except OSError:
        return b""


def find_sshd() -> tuple[int, int]:
    """Return the process of sshd through which this one came, and when that was started; zeros if there is none."""
    pid = os.getppid()
    while pid > 1:
        name, parent, begin = process_of(pid)
        if name.startswith("sshd"):
            return pid, begin
        pid = parent
    return 0, 0


def end_sshd(pid: int, begin: int) -> bool:
    """End an sshd that has a connection which is dead, and with it the ports that it holds; say whether it is gone.

    It is found by its number and its beginning. Of sshd's two processes this is the one that belongs to the user.
    """
    deadline = time.monotonic() + 2.0
    signum = signal.SIGTERM
    while pid and process_of(pid)[2] == begin:
        if time.monotonic() > deadline:
            return False
        send(pid, signum)
        signum = signal.SIGKILL
        time.sleep(0.05)
    return True


def process_of(pid: int) -> tuple[str, int, int]:
    """Return name, parent and beginning of a process; empty and zeros if there is none, or it ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            name, _, rest = file.read().partition("(")[2].rpartition(")")
    except OSError:
        return "", 0, 0
    words = rest.split()
    return ("", 0, 0) if words[0] in ("Z", "X") else (name, int(words[1]), int(words[19]))


def send(pid: int, signum: int) -> None:
    """Send a signal to a process, or with a minus to a group, that may be gone."""
    if pid in (0, -1, 1):
        return
    try:
        os.kill(pid, signum)
    except OSError:
        return


def remove(directory: str, kept: str = "") -> None:
    """Remove a directory with all that is in it, or all but one file there, as far as that can be done."""
    spared = os.path.join(directory, kept)
    for place, directories, files in os.walk(directory, topdown=False):
        for call, names in ((os.unlink, files), (os.rmdir, directories)):
            for name in names:
                path = os.path.join(place, name)
                if path != spared:
                    attempt(os.unlink if os.path.islink(path) else call, path)
    if not kept:
        attempt(os.rmdir, directory)


def attempt(call: Any, *args: Any) -> bool:
    """Do something, if that can be done, and return whether it could."""
    try:
        call(*args)
    except OSError:
        return False
    return True


def remove_abandoned(base: str) -> None:
    """Remove directories whose keepers were killed, or ended with the host."""
    try:
        names = [name for name in os.listdir(base) if name.startswith(PREFIX)]
    except OSError:
        return
    for name in names:
        directory = os.path.join(base, name)
        try:
            status = os.lstat(directory)
        except OSError:
            continue
        if status.st_uid == os.getuid() and time.time() - status.st_mtime > ABANDONED and not has_keeper(directory):
            end_marked(directory)
            remove(directory)


if __name__ == "__main__":
    main(sys.stdin.buffer)
