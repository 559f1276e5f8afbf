"""ext4 on loop devices for the tests of this folder, in a mount namespace of their own: nothing stays mounted whatever
happens, and a loop device goes with its mount.
"""
import contextlib
import os
import shutil
import stat
import subprocess
import sys
import time


def call(*words, good=(0,), **more):
    done = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **more)
    if done.returncode not in good:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def skip(part, why):
    print(f"SKIPPED: {part}: {why}")
    sys.exit(1 if os.environ.get("PENSTOCK_DEMAND_E2E") else 77)


def enter_namespace(part, *arguments):
    """Runs this program again in a mount namespace of its own, with `arguments` besides; skips where that cannot be had."""
    if os.environ.get("PENSTOCK_OWN_NAMESPACE"):
        return
    if os.geteuid() != 0:
        skip(part, "only root can mount")
    if not os.path.exists("/dev/loop-control"):
        skip(part, "there is no /dev/loop-control")
    if shutil.which("mkfs.ext4") is None:
        skip(part, "mkfs.ext4 is not installed")
    unshare = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*unshare, "true"], stdin=subprocess.DEVNULL, capture_output=True).returncode != 0:
        skip(part, "no mount namespace can be made here")
    os.environ["PENSTOCK_OWN_NAMESPACE"] = "1"
    os.execvp("unshare", [*unshare, sys.executable, *sys.argv, *arguments])


def attach(image, direct_io):
    """The loop device; another program may be faster to take the free one, and where there is no udev it may lack a name."""
    for attempt in range(50):
        loop = call("losetup", "--find").strip()
        if not os.path.exists(loop):
            os.mknod(loop, 0o600 | stat.S_IFBLK, os.makedev(7, int(loop.removeprefix("/dev/loop"))))
        try:
            call("losetup", f"--direct-io={'on' if direct_io else 'off'}", loop, image)
            return loop
        except RuntimeError:
            if attempt == 49:
                raise
            time.sleep(0.1)


@contextlib.contextmanager
def mounted(image, at, direct_io=False):
    """ext4 in a file. The loop device is detached at once, which means: when it is unmounted."""
    loop = attach(image, direct_io)
    try:
        call("mount", "-t", "ext4", "-o", "noatime", loop, at)
    finally:
        call("losetup", "--detach", loop)
    try:
        yield at
    finally:
        unmount(at)


@contextlib.contextmanager
def small_disk(folder, mebibytes, *mkfs_words):
    """An empty ext4 of its own, all of it for everybody."""
    image, at = folder / "image", folder / "disk"
    at.mkdir()
    with open(image, "wb") as file:
        file.truncate(mebibytes << 20)
    call("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", *mkfs_words, image)
    with mounted(image, at):
        yield at


def unmount(at):
    """What was busy for a moment is not for long."""
    for attempt in range(50):
        try:
            return call("umount", at)
        except RuntimeError:
            if attempt == 49:
                raise
            time.sleep(0.1)
