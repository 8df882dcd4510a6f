"""``playbooks/big-jobs.md``: a Job whose containers' commands run as processes here, a Dask cluster, and processes of one machine."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ROOT
from tests.support.playbooks.page import Page
from tests.support.recipes import HOST, answers
from tests.support.services import free_port


@pytest.fixture
def manifest() -> Any:
    [text] = re.findall(r"```yaml\n# job.yaml\n(.*?)```", (ROOT / "playbooks" / "big-jobs.md").read_text(), re.DOTALL)
    return yaml.safe_load(text)


def test_the_manifest_is_a_job_that_asks_for_no_more_than_it_needs(manifest: Any) -> None:
    assert (manifest["apiVersion"], manifest["kind"]) == ("batch/v1", "Job")
    spec = manifest["spec"]
    assert spec["completionMode"] == "Indexed"
    assert 0 < spec["parallelism"] <= spec["completions"]
    assert isinstance(spec["backoffLimitPerIndex"], int)
    pod = spec["template"]["spec"]
    # Without it the policy is refused.
    assert pod["restartPolicy"] == "Never"
    assert pod["automountServiceAccountToken"] is False
    assert pod["terminationGracePeriodSeconds"] > 20
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    [shell, option, line] = container["command"]
    assert (shell, option, line[:5]) == ("sh", "-c", "exec ")
    assert f'--shard "$JOB_COMPLETION_INDEX/{spec["completions"]}"' in line
    volumes, mounts = {each["name"] for each in pod["volumes"]}, {each["name"] for each in container["volumeMounts"]}
    assert volumes == mounts
    for each in container["env"]:
        assert not re.search("key|secret|password|token", each["name"], re.IGNORECASE), "secrets come from secrets"


def test_the_policy_knows_every_exit_code(manifest: Any) -> None:
    rules = manifest["spec"]["podFailurePolicy"]["rules"]
    assert {rule["onExitCodes"]["containerName"] for rule in rules if "onExitCodes" in rule} == {"migrate"}
    assert all(rule["onExitCodes"]["operator"] == "In" for rule in rules if "onExitCodes" in rule)
    action = {code: rule["action"] for rule in rules for code in rule.get("onExitCodes", {}).get("values", ())}
    assert action == {1: "FailIndex", 70: "FailIndex", 2: "FailJob", 130: "FailJob"}
    documented = set(map(int, re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "exit-codes.md").read_text(), re.MULTILINE)))
    # 3 is tried again, and so is what a signal or a limit has ended.
    assert documented - set(action) == {0, 3, 4, 143}


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_job_a_cluster_and_processes(
    playbook: Callable[..., Page], environment: dict[str, str], tmp_path: Path
) -> None:
    folder, port = tmp_path / "acme", free_port()
    for name, values in {
        "acme-database": {"password": "not-asked-for"},
        "acme-s3": {
            name: environment[name] for name in environment if name.startswith(("AWS_ACC", "AWS_SEC", "AWS_REG"))
        },
    }.items():
        (folder / "secrets" / name).mkdir(parents=True)
        for key, value in values.items():
            (folder / "secrets" / name / key).write_text(value)
    there = environment["DATABASE_URL"].removeprefix("postgresql+psycopg://tester@")
    page = playbook(
        "big-jobs",
        {
            f"postgresql+psycopg://tester:${{file:{folder}/run/password}}@{there}": (
                "postgresql+psycopg://acme:${file:/run/secrets/acme/password}@db.acme.example/acme"
            ),
            f"{folder}/run": "/run/secrets/acme",
            f"{folder}/etc": "/etc/acme",
            f"{folder}/scratch": "/scratch",
            f"tcp://{HOST}:{port}": "tcp://scheduler.acme.example:8786",
        },
    )
    (folder / "run").mkdir()
    (folder / "run" / "password").write_text("not-asked-for")
    environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"
    # ACME's cluster is there: it ends with the folder.
    for words in (["scheduler", "--host", HOST, "--port", str(port), "--no-dashboard"],
                  ["worker", f"tcp://{HOST}:{port}", "--nworkers", "2", "--nthreads", "1", "--no-dashboard"]):  # fmt: skip
        with (tmp_path / f"{words[0]}.log").open("ab") as log:
            subprocess.Popen(["dask", *words], cwd=folder, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not answers(port) and time.monotonic() < deadline:
            time.sleep(0.1)
    page.follow()
    ended = json.loads((folder / "cluster" / "state.json").read_text())
    assert ended == ["done"] * 4
    assert not (folder / "scratch").exists() or not list((folder / "scratch").iterdir())
