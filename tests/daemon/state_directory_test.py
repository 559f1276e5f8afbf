#!/usr/bin/env python3
"""The disk below the state directory: not mounted, turned read-only by the kernel, of a kind that copies what is overwritten.

Everything is mounted in a namespace of its own, so it needs root. Exit status 77: that cannot be had here.
"""
import os
import pathlib
import sys

from gateway import Gateway, expect, main, wait_until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "crash"))
from loop_device import call, enter_namespace, skip, small_disk  # noqa: E402


def ends(gateway):
    """How it ends by itself: its status, and why, in its own words."""
    status = wait_until(lambda: None if gateway.alive() else gateway.child.wait() + 1, "the agent to end", 30) - 1
    return status, [line for line in gateway.output().splitlines() if " critical " in line][-1]


def test_a_disk_that_is_not_mounted_is_not_replaced_by_the_one_below(folder):
    disk = folder / "data"
    disk.mkdir()
    (folder / "fstab").write_text(f"LABEL=data {disk} ext4 noatime,nofail 0 2\n")
    call("mount", "--bind", folder / "fstab", "/etc/fstab")
    try:
        gateway = Gateway(folder, listen="off", state=disk / "penstock")
        gateway.start()
        status, said = ends(gateway)
        expect(status == 1 and f"{disk} is a file system of its own, and nothing is mounted there" in said,
               f"status {status}: {said}")
        imported = gateway.call("import", "-c", str(gateway.config), "--stream", "s", str(gateway.config))
        expect(imported.returncode != 0 and "nothing is mounted there" in imported.stderr, f"import: {imported.stderr.strip()}")
        expect(not list(disk.iterdir()), "nothing was written below the mount point")
        call("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk)
        try:
            gateway.up()
            wait_until(lambda: gateway.durable() > 10, "records on the disk, now that it is there", 30)
            expect(gateway.terminate(20) == 0, "mounted: it starts, and ends with 0")
        finally:
            call("umount", disk)
    finally:
        call("umount", "/etc/fstab")


def test_a_disk_that_turns_read_only_ends_the_agent_and_costs_nothing_durable(folder):
    with small_disk(folder, 64) as disk:
        device = next(line.split()[0] for line in open("/proc/self/mounts") if line.split()[1] == str(disk))
        trigger = pathlib.Path("/sys/fs/ext4") / os.path.basename(device) / "trigger_fs_error"
        if not trigger.exists():
            skip("read-only", f"this kernel has no {trigger}")
        call("mount", "-o", "remount,errors=remount-ro", disk)
        gateway = Gateway(folder, listen="off", state=disk / "state").up()
        before = wait_until(lambda: gateway.durable() if gateway.durable() > 100 else None, "records on the disk", 30)
        trigger.write_text("a test")  # what ext4 does when it finds its own structures damaged
        status, said = ends(gateway)
        expect(status == 1 and "Read-only file system" in said and str(disk) in said, f"running: status {status}: {said}")
        gateway.start()
        status, said = ends(gateway)
        expect(status == 1 and "Read-only file system" in said and str(disk) in said, f"started again: status {status}: {said}")

        call("umount", disk)
        call("e2fsck", "-p", "-f", folder / "image", good=(0, 1))
        call("mount", "-o", "loop", folder / "image", disk)
        gateway.up()
        after = wait_until(lambda: gateway.durable(), "the queue", 30)
        expect(after >= before, f"mounted again: {before} records were durable, {after} are")
        wait_until(lambda: gateway.durable() > after, "more records", 30)
        expect(gateway.terminate(20) == 0, "exit status 0")


def test_a_disk_that_copies_what_is_overwritten_is_warned_of(folder):
    parts = folder / "parts"
    parts.mkdir()
    call("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", parts)
    try:
        for name in ("lower", "upper", "work", "disk"):
            (parts / name).mkdir()
        disk = parts / "disk"
        call("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={parts}/lower,upperdir={parts}/upper,workdir={parts}/work", disk)
        try:
            gateway = Gateway(folder, listen="off", state=disk / "state").up()
            expect("is on overlay, which copies what is overwritten" in gateway.output(), "the log warns")
            wait_until(lambda: gateway.durable() > 10, "records", 30)
            expect(gateway.terminate(20) == 0, "it works all the same")
        finally:
            call("umount", disk)
    finally:
        call("umount", parts)


if __name__ == "__main__":
    enter_namespace("state directory")
    sys.exit(main(globals()))
