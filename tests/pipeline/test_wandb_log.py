"""Logging to Weights & Biases, with the real package: what it writes is read back from its own files."""

import json
import os
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ntkcl.errors import UserError
from ntkcl.pipeline import wandb_log

STEPS = 3
CURVE, MATRIX = [90.0, 70.0], [[90.0], [60.0, 80.0]]
SETTINGS = {"eta": 0.03}
NAMES = {"dataset": "digits", "backbone": "vit_micro", "variant": "ntk_cl/no_ema", "seed": 1}


@pytest.fixture
def run_folder(tmp_path):
    """The files of a finished run of two tasks; the second has a loss term more."""
    folder = tmp_path / "project" / "runs" / "digits" / "vit_micro" / "ntk_cl" / "no_ema" / "seed1"
    for task, terms in enumerate(["entropy", "entropy,infonce"]):
        (folder / f"task{task}").mkdir(parents=True)
        rows = [f"{step},1,0.1,{step + 10 * task}" + ",0.5" * len(terms.split(",")) for step in range(STEPS)]
        (folder / f"task{task}" / "losses.csv").write_text("\n".join([f"step,epoch,lr,total,{terms}", *rows]) + "\n")
    content = {
        "run": NAMES | {"protocol": "incremental", "settings": SETTINGS},
        "digest": "0123456789ab",
        "provenance": [{"device": "cpu", "versions": {"torch": "2"}, "commit": "c"}],
        "metrics": {"accuracy": CURVE, "accuracy_matrix": MATRIX, "final_accuracy": 70.0, "forgetting": None},
    }
    (folder / "metrics.json").write_text(json.dumps(content))
    return folder


def track(run_folder, home, **variables):
    """`wandb_log.track` in a process of its own, with an empty home and no variables of the person's."""
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "XDG", "NETRC"))}
    code = (
        "import sys; from pathlib import Path; from ntkcl.pipeline.wandb_log import track; "
        f"track(Path({str(run_folder)!r})); assert 'torch' not in sys.modules"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"HOME": str(home), "no_proxy": "127.0.0.1"} | variables,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def chunks(data):
    """The records of a W&B log: LevelDB's format after a header of 7 bytes, in blocks of 32 KiB."""
    place, record = 7, b""
    while place + 7 <= len(data):
        rest = 32768 - place % 32768
        if rest < 7:  # too small for another header of a chunk: padding
            place += rest
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last chunk of one
            yield record
            record = b""


def records_of(run_folder):
    """The records of the only .wandb file below a run's folder."""
    from wandb.proto.wandb_internal_pb2 import Record

    [path] = run_folder.glob("wandb/offline-run-*/*.wandb")
    return [Record.FromString(chunk) for chunk in chunks(path.read_bytes())]


def values(items):
    """Plain values of a protobuf list of keys and JSON."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def history(records):
    """The logged rows without what wandb adds."""
    rows = [values(record.history.item) for record in records if record.HasField("history")]
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]


def test_a_run_reads_as_one_and_nothing_lies_elsewhere(run_folder, tmp_path):
    (run_folder / "wandb" / "offline-run-of-earlier").mkdir(parents=True)
    before = {path for path in tmp_path.rglob("*") if "wandb" not in path.parts}
    done = track(run_folder, tmp_path / "home")
    assert (done.stdout, done.stderr) == ("", "")
    assert {path for path in tmp_path.rglob("*") if "wandb" not in path.parts} == before | {tmp_path / "home"}
    assert len(list((run_folder / "wandb").iterdir())) == 1

    records = records_of(run_folder)
    [run] = [record.run for record in records if record.HasField("run")]
    group = "digits/vit_micro/ntk_cl/no_ema"
    assert (run.project, run.run_group, run.display_name) == ("ntkcl", group, f"{group}/seed1")
    assert set(run.tags) == {"digits", "vit_micro", "ntk_cl/no_ema", "incremental"}
    config = values(run.config.update)
    assert config["settings"] == SETTINGS and config["digest"] == "0123456789ab" and config["seed"] == 1

    rows = history(records)
    training, accuracies = rows[: 2 * STEPS], rows[2 * STEPS :]
    assert [(row["step"], row["task"], row["lr"]) for row in training] == [
        (step, step // STEPS, 0.1) for step in range(2 * STEPS)
    ]
    assert [row["loss/total"] for row in training] == [0, 1, 2, 10, 11, 12]
    assert [row.get("loss/infonce") for row in training] == [None] * STEPS + [0.5] * STEPS
    assert accuracies == [
        {"tasks_learned": 1, "accuracy/seen": 90.0, "accuracy/task0": 90.0},
        {"tasks_learned": 2, "accuracy/seen": 70.0, "accuracy/task0": 60.0, "accuracy/task1": 80.0},
    ]
    summaries = [values(record.summary.update) for record in records if record.HasField("summary")]
    assert {"accuracy_matrix": MATRIX}.items() <= {k: v for part in summaries for k, v in part.items()}.items()
    axes = {
        record.metric.glob_name or record.metric.name: record.metric.step_metric
        for record in records
        if record.HasField("metric")
    }
    assert (axes["loss/*"], axes["accuracy/*"]) == ("step", "tasks_learned")


def test_a_server_out_of_reach_costs_a_warning_only(run_folder, tmp_path):
    (tmp_path / "home").mkdir()
    netrc = tmp_path / "home" / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login user password {'0' * 40}\n")
    netrc.chmod(0o600)
    done = track(run_folder, tmp_path / "home", WANDB_BASE_URL="http://127.0.0.1:9")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("warning: not uploaded to W&B (http://127.0.0.1:9 does not answer")
    assert len(history(records_of(run_folder))) == 2 * STEPS + 2


class Refusing(BaseHTTPRequestHandler):
    """A server for which every key is wrong."""

    def do_GET(self):
        self.send_error(401)

    do_POST = do_GET

    def log_message(self, *_):
        """Quiet."""


def test_a_refused_key_costs_a_warning_only(run_folder, tmp_path):
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    done = track(run_folder, tmp_path / "home", WANDB_BASE_URL=url, WANDB_API_KEY="0" * 40)
    server.shutdown()
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("warning: not uploaded to W&B (")
    assert len(history(records_of(run_folder))) == 2 * STEPS + 2


def test_the_mode_wins_over_a_key(run_folder, tmp_path):
    variables = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_MODE": "offline"}
    assert track(run_folder, tmp_path / "home", WANDB_PROJECT="mine", **variables).stderr == ""
    [run] = [record.run for record in records_of(run_folder) if record.HasField("run")]
    assert run.project == "mine"


def test_disabled_leaves_an_empty_folder(run_folder, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    wandb_log.track(run_folder)
    assert list((run_folder / "wandb").iterdir()) == []


def test_what_is_wrong_is_said(run_folder, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offlin")
    with pytest.raises(UserError, match="did you mean 'offline'"):
        wandb_log.track(run_folder)
    (run_folder / "task1" / "losses.csv").unlink()
    with pytest.raises(UserError, match=r"task1/losses\.csv is missing"):
        wandb_log.track(run_folder)
    monkeypatch.setenv("WANDB_MODE", "offline")
    (run_folder / "task1" / "losses.csv").write_text("step,epoch,lr,total\n")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="wandb is not installed"):
        wandb_log.track(run_folder)


def test_long_tasks_are_thinned_and_steps_go_on(run_folder, monkeypatch):
    monkeypatch.setattr(wandb_log, "ROWS", 2)
    tables = wandb_log._read_losses(run_folder, 2)
    assert [table["step"].tolist() for table in tables] == [[0, 2], [3, 5]]


def test_a_joint_run_and_one_without_training_are_logged(run_folder):
    header = "step,epoch,lr,total\n"
    (run_folder / "task0" / "losses.csv").write_text(header)
    (run_folder / "task1" / "losses.csv").unlink()
    assert list(wandb_log._training_rows(wandb_log._read_losses(Path(run_folder), 1))) == []
