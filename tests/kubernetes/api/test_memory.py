"""Memory limits: over them a container dies, and only what it really holds counts."""

from __future__ import annotations

from kube_pods import Pods

LIMIT = {"resources": {"limits": {"memory": "120Mi"}}}


def test_container_over_its_memory_limit_is_killed_with_137(pods: Pods) -> None:
    pods.python("greedy", "import time; x = bytearray(400 << 20); time.sleep(900)", container=LIMIT)
    ended = pods.ended("greedy")
    assert (ended.exit_code, ended.reason) == (137, "OOMKilled")
    assert pods.read("greedy").status.phase == "Failed"


def test_memory_of_child_processes_counts(pods: Pods) -> None:
    child = "x = bytearray(70 << 20); import time; time.sleep(900)"
    start = f"[subprocess.Popen([sys.executable, '-c', {child!r}]) for _ in 'ab']"
    program = f"import os, subprocess, sys, time; {start}; os.wait(); time.sleep(5)"
    pods.python("parent", program, container=LIMIT)
    assert pods.ended("parent").reason == "OOMKilled"


def test_memory_shared_by_forked_processes_counts_once(pods: Pods) -> None:
    program = """
import os, time
x = bytearray(70 << 20)
children = [os.fork() for _ in range(1)]
time.sleep(1.0)
os._exit(0) if 0 in children else os.waitpid(children[0], 0)
"""
    pods.python("forking", program, container=LIMIT)
    assert pods.ended("forking").exit_code == 0


def test_mapped_files_do_not_count_since_the_kernel_takes_them_back(pods: Pods) -> None:
    program = """
import mmap, os, time
path = os.environ.get("TMPDIR", "/tmp") + "/big"
with open(path, "wb") as f:
    for _ in range(200):
        f.write(bytes(1 << 20))
with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
    total = sum(m[i] for i in range(0, len(m), 4096))
    time.sleep(0.5)
"""
    pods.python("mapping", program, container=LIMIT)
    assert pods.ended("mapping").exit_code == 0
