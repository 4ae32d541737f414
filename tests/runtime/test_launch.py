"""The launch scripts: what they would run, and real runs of those that this machine can run."""

import json
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from helpers.small_runs import metrics_of
from helpers.trees import draw_folder_tree

ROOT = pathlib.Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
ARGUMENTS = [
    "--config",
    "configs/demo.py",
    "--workdir=/shared/my runs/it's one",
    "--config.data.source=$HOME/*",
    "--config.train.steps=7",
]
XPK = {"CLUSTER": "my cluster", "PROJECT": "p", "ZONE": "z", "IMAGE": "registry/image", "NODES": "3"}
POD = {"TPU": "pod", "PROJECT": "p", "ZONE": "z", "FOLDER": "/shared/my code"}


def launch(script, *arguments, **environment):
    """Status and output of a launch script; nothing but PATH is inherited."""
    environment = {"PATH": os.environ["PATH"], **environment}
    done = subprocess.run(
        [LAUNCH / script, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def dry_run(script, *arguments, **environment):
    """The commands that a script would run, each as its arguments."""
    status, output = launch(script, "--dry-run", *arguments, **environment)
    assert status == 0, output
    return [shlex.split(line) for line in output.splitlines()]


def remote(command):
    """What a shell on a host makes of a launcher's --command=TEXT: what stands before -m, and the arguments."""
    (text,) = (argument.removeprefix("--command=") for argument in command if argument.startswith("--command="))
    prefix, _, arguments = text.partition(" -m jax_mspac.main ")
    variables = {"JAX_COORDINATOR_ADDRESS": "host", "JAX_COORDINATOR_PORT": "6002", "NNODES": "3", "NODE_RANK": "2"}
    shown = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {arguments}"], env=variables, capture_output=True, text=True, check=True
    )
    return prefix, shown.stdout.split("\0")[:-1]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_scripts_are_sound():
    done = subprocess.run(["shellcheck", *sorted(LAUNCH.glob("*.s*"))], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_local_starts_every_process_with_every_argument():
    commands = dry_run("local.sh", "3", *ARGUMENTS, CPU_DEVICES="2", PORT="1234", PYTHON="python3.11")
    assert len(commands) == 3
    for number, command in enumerate(commands):
        assert command == [
            *("env", "JAX_PLATFORMS=cpu", "JAX_NUM_CPU_DEVICES=2", "python3.11", "-m", "jax_mspac.main"),
            *("--coordinator_address=localhost:1234", "--num_processes=3", f"--process_id={number}"),
            *ARGUMENTS,
        ]


def test_slurm_forwards_every_argument():
    (command,) = dry_run("slurm.sbatch", *ARGUMENTS)
    assert command == [
        *("srun", "--kill-on-bad-exit=1", "python", "-m", "jax_mspac.main", "--distributed"),
        *ARGUMENTS,
    ]


def test_xpk_forwards_every_argument_to_tpus_and_gpus():
    (command,) = dry_run("gke_xpk.sh", *ARGUMENTS, **XPK, TPU_TYPE="v6e-16", STORAGE="my-filestore")
    assert command[:3] == ["xpk", "workload", "create"]
    expected = {"--cluster=my cluster", "--docker-image=registry/image", "--tpu-type=v6e-16", "--num-slices=3"}
    assert expected | {"--storage=my-filestore", "--restart-on-exit-codes=75"} <= set(command)
    assert remote(command) == ("exec python", ["--distributed", *ARGUMENTS])

    (command,) = dry_run("gke_xpk.sh", *ARGUMENTS, **XPK, DEVICE_TYPE="h100-mega-80gb-8")
    assert {"--device-type=h100-mega-80gb-8", "--num-nodes=3"} <= set(command)
    joining = ["--coordinator_address=host:6002", "--num_processes=3", "--process_id=2"]
    assert remote(command) == ("exec python", [*joining, *ARGUMENTS])


def test_tpu_pod_forwards_every_argument():
    (command,) = dry_run("tpu_pod.sh", *ARGUMENTS, **POD)
    assert command[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod"] and "--worker=all" in command
    assert remote(command) == ("cd '/shared/my code' && exec python3", ["--distributed", *ARGUMENTS])


@pytest.mark.parametrize(
    "script, environment", [("gke_xpk.sh", {**XPK, "TPU_TYPE": "v6e-16"}), ("tpu_pod.sh", POD)], ids=["xpk", "pod"]
)
def test_what_is_not_set_is_named(script, environment):
    for name in environment.keys() - {"NODES"}:
        rest = {other: value for other, value in environment.items() if other != name}
        status, output = launch(script, "--dry-run", **rest)
        assert status != 0 and name in output, output
    status, output = launch("local.sh", "many")
    assert status == 2 and "usage" in output


@pytest.fixture
def fake_python(tmp_path):
    """A stand-in for Python whose process 1 ends with what the file `status` says, while the others wait for TERM."""
    script = tmp_path / "python"
    script.write_text(
        "#!/usr/bin/env bash\n"
        "trap 'exit 75' TERM\n"
        f"echo $$ >> {tmp_path}/started\n"
        f'[[ "$*" == *--process_id=1* && -e {tmp_path}/status ]] && exit $(cat {tmp_path}/status)\n'
        "while true; do sleep 0.1; done\n"
    )
    script.chmod(0o755)
    return script


def test_local_ends_the_others_of_a_process_that_failed(tmp_path, fake_python):
    (tmp_path / "status").write_text("3")
    status, output = launch("local.sh", "3", PYTHON=str(fake_python))
    assert status == 3, output
    assert not any(pathlib.Path("/proc", pid).exists() for pid in (tmp_path / "started").read_text().split())


def test_local_ends_the_others_when_one_failed_while_another_saved(tmp_path, fake_python):
    (tmp_path / "status").write_text("3")
    body = fake_python.read_text()
    fake_python.write_text(body.replace("while", '[[ "$*" == *--process_id=0* ]] && exit 75\nwhile', 1))
    status, output = launch("local.sh", "3", PYTHON=str(fake_python))
    assert status == 3, output
    assert not any(pathlib.Path("/proc", pid).exists() for pid in (tmp_path / "started").read_text().split())


def test_local_tells_every_process_of_a_signal(tmp_path, fake_python):
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(fake_python)}
    process = subprocess.Popen([LAUNCH / "local.sh", "2"], env=environment, cwd=ROOT)
    try:
        _until(lambda: (tmp_path / "started").exists() and len((tmp_path / "started").read_text().split()) == 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 75
    finally:
        process.kill()


def test_local_tells_those_that_start_after_the_signal_too(tmp_path, fake_python):
    body = fake_python.read_text()
    fake_python.write_text(body.replace("while", '[[ "$*" == *--process_id=0* ]] && kill -TERM $PPID\nwhile', 1))
    status, output = launch("local.sh", "40", PYTHON=str(fake_python))
    assert status in (75, 128 + signal.SIGTERM), output  # the latter from those that were told before their own trap
    assert not any(pathlib.Path("/proc", pid).exists() for pid in (tmp_path / "started").read_text().split())


def tiny_run(folder, workdir, *, saved_every):
    """Arguments of a run that takes seconds, on a drawn tree."""
    return [
        "--config=configs/folder.py",
        f"--workdir={workdir}",
        f"--config.data.source={folder / 'tree'}",
        f"--config.data.data_dir={folder / 'tfds'}",
        *("--config.data.height=32", "--config.data.width=16", "--config.data.test_fraction=0.3"),
        *("--config.batch.identities=4", "--config.batch.visible=1", "--config.batch.infrared=1"),
        *("--config.model.backbone=resnet10", "--config.model.width=4", "--config.model.parts=2,1"),
        *("--config.loss.identity=global", "--config.eval.batch=5"),
        *("--config.train.steps=100", "--config.train.log_every=1", f"--config.checkpoint.every={saved_every}"),
    ]


@pytest.fixture
def slurm(tmp_path_factory):
    """A Slurm cluster of this machine alone: the environment of its commands."""
    programs = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue", "srun")
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (Debian: slurmctld slurmd slurm-client munge)")
    if os.geteuid() != 0:
        pytest.skip("only root can start Slurm's daemons")
    folder = tmp_path_factory.mktemp("slurm")
    _write_slurm_conf(folder)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    daemons = []

    def start(*command):
        with (folder / f"{command[0]}.out").open("a") as log:
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return daemons[-1]

    try:
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o600)
        files = [f"--{name}={folder / 'munge'}.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
        start("munged", "--foreground", "--force", f"--key-file={folder / 'munge.key'}", *files)
        _until(lambda: (folder / "munge.socket").exists())
        start("slurmctld", "-D", "-f", str(folder / "slurm.conf"))
        # Which cgroup plugins there are depends on Slurm's version; none of them is used.
        for plugin in ("disabled", "cgroup/v1", "cgroup/v2"):
            (folder / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")
            slurmd = start("slurmd", "-D", "-f", str(folder / "slurm.conf"), "-N", "localhost")
            time.sleep(2)
            if slurmd.poll() is None:
                break
        _until(lambda: "idle" in _output(["sinfo", "-h"], environment), folder)
        yield environment
    finally:
        subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _write_slurm_conf(folder):
    names = {name: folder / name for name in ("state", "spool")}
    for path in names.values():
        path.mkdir()
    settings = {
        "ClusterName": "test",
        "SlurmctldHost": "localhost",
        "SlurmctldPort": _free_port(),
        "SlurmdPort": _free_port(),
        "SlurmUser": "root",
        "SlurmdUser": "root",
        # Requeued jobs wait until their credentials have expired.
        "AuthInfo": f"socket={folder / 'munge.socket'},cred_expire=5",
        "StateSaveLocation": names["state"],
        "SlurmdSpoolDir": names["spool"],
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.pid",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "MpiDefault": "none",
        "ReturnToService": 2,
        "NodeName": f"localhost CPUs={os.cpu_count()} State=UNKNOWN",
        "PartitionName": "test Nodes=localhost Default=YES MaxTime=INFINITE State=UP",
    }
    (folder / "slurm.conf").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def _free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def _output(command, environment):
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout


def _until(condition, logs=None, timeout=300):
    deadline = time.monotonic() + timeout
    while not condition():
        found = sorted(logs.glob("*.out")) if logs else []
        assert time.monotonic() < deadline, "\n".join(f"{path}: {path.read_text()[-3000:]}" for path in found)
        time.sleep(0.1)


@pytest.mark.slow
def test_a_preempted_slurm_job_requeues_itself_and_is_the_undisturbed_run(slurm, tmp_path):
    draw_folder_tree(tmp_path / "tree", identities=[f"person {i}" for i in range(13)], images=2)
    environment = {**slurm, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "PYTHON": sys.executable}
    workdir, undisturbed = tmp_path / "my run", tmp_path / "undisturbed"
    submit = ["sbatch", "--parsable", f"--output={tmp_path / 'job.out'}", "launch/slurm.sbatch"]
    job = subprocess.run(
        [*submit, *tiny_run(tmp_path, workdir, saved_every=4)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert job.returncode == 0, job.stderr
    _until(lambda: any((workdir / "checkpoints").glob("[0-9]*")), tmp_path)
    # As --signal and a preemption do it: to the steps of the job, not to its script.
    subprocess.run(["scancel", "--signal=TERM", job.stdout.strip()], env=environment, check=True)
    _until((workdir / "results.json").exists, tmp_path)
    output = (tmp_path / "job.out").read_text()
    assert "interrupted by SIGTERM after step" in output and "DUE TO JOB REQUEUE" in output, output
    assert "resuming from the checkpoint of step" in output, output

    done = subprocess.run(
        [sys.executable, "-m", "jax_mspac.main", *tiny_run(tmp_path, undisturbed, saved_every=100)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [line["step"] for line in metrics_of(workdir)] == list(range(1, 101))
    assert metrics_of(workdir) == metrics_of(undisturbed)
    tables = [json.loads((folder / "results.json").read_text())["rows"] for folder in (workdir, undisturbed)]
    assert tables[0] == tables[1]
