"""Logging to Weights & Biases, with the real package: what it writes is read back from its own files."""

import json
import os
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ntkcl.pipeline import wandb_log

STEPS = 3
CURVE, MATRIX = [90.0, 70.0], [[90.0], [60.0, 80.0]]
SETTINGS = {"eta": 0.03}
NAMES = {"dataset": "digits", "backbone": "vit_micro", "variant": "ntk_cl/no_ema", "seed": 1}


@pytest.fixture
def run_folder(tmp_path):
    """The files of a finished run of two tasks; the second has a loss term more."""
    return finished_run(tmp_path / "project" / "runs" / "digits" / "vit_micro" / "ntk_cl" / "no_ema", 1)


def finished_run(parent, seed):
    folder = parent / f"seed{seed}"
    for task, terms in enumerate(["entropy", "entropy,infonce"]):
        (folder / f"task{task}").mkdir(parents=True)
        rows = [f"{step},1,0.1,{step + 10 * task}" + ",0.5" * len(terms.split(",")) for step in range(STEPS)]
        (folder / f"task{task}" / "losses.csv").write_text("\n".join([f"step,epoch,lr,total,{terms}", *rows]) + "\n")
    write_metrics(folder, seed, 70.0)
    return folder


def write_metrics(folder, seed, final):
    content = {
        "run": NAMES | {"seed": seed, "protocol": "incremental", "settings": SETTINGS},
        "digest": "0123456789ab",
        "provenance": [{"device": "cpu", "versions": {"torch": "2"}, "commit": "c"}],
        "metrics": {"accuracy": CURVE, "accuracy_matrix": MATRIX, "final_accuracy": final, "forgetting": None},
    }
    (folder / "metrics.json").write_text(json.dumps(content))


def log_wandb(folder, home, code=0, **variables):
    """`ntkcl log-wandb` with an empty home and without W&B's variables of this process."""
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "XDG", "NETRC"))}
    done = subprocess.run(
        [sys.executable, "-m", "ntkcl", "log-wandb", str(folder)],
        env=kept | {"HOME": str(home), "no_proxy": "127.0.0.1"} | variables,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == code, done.stderr
    return done


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


def test_a_run_is_one_wandb_run_and_nothing_is_written_elsewhere(run_folder, tmp_path):
    (run_folder / "wandb" / "offline-run-of-earlier").mkdir(parents=True)
    (run_folder / "wandb.partial").mkdir()  # of a process that was killed
    before = {path for path in tmp_path.rglob("*") if not {"wandb", "wandb.partial"} & set(path.parts)}
    done = log_wandb(run_folder, tmp_path / "home")
    assert (done.stdout, done.stderr) == ("", "")
    assert {path for path in tmp_path.rglob("*") if "wandb" not in path.parts} == before | {tmp_path / "home"}
    assert len(list((run_folder / "wandb").glob("offline-run-*"))) == 1

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
        {"tasks_learned": 1, "accuracy/learned": 90.0, "accuracy/task0": 90.0},
        {"tasks_learned": 2, "accuracy/learned": 70.0, "accuracy/task0": 60.0, "accuracy/task1": 80.0},
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
    done = log_wandb(run_folder, tmp_path / "home", WANDB_BASE_URL="http://127.0.0.1:9")
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
    done = log_wandb(run_folder, tmp_path / "home", WANDB_BASE_URL=url, WANDB_API_KEY="0" * 40)
    server.shutdown()
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("warning: not uploaded to W&B (")
    assert len(history(records_of(run_folder))) == 2 * STEPS + 2


def test_the_mode_wins_over_a_key(run_folder, tmp_path):
    variables = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_MODE": "offline"}
    assert log_wandb(run_folder, tmp_path / "home", WANDB_PROJECT="mine", **variables).stderr == ""
    [run] = [record.run for record in records_of(run_folder) if record.HasField("run")]
    assert run.project == "mine"


def test_only_new_results_are_logged(run_folder, tmp_path):
    """One process for several runs; those that were logged stay as they are."""
    folders = [run_folder, finished_run(run_folder.parent, 2)]
    log_wandb(run_folder.parent, tmp_path / "home")
    before = [list(folder.glob("wandb/offline-run-*")) for folder in folders]
    assert [len(paths) for paths in before] == [1, 1]
    write_metrics(folders[1], 2, final=71.0)
    log_wandb(run_folder.parent, tmp_path / "home")
    after = [list(folder.glob("wandb/offline-run-*")) for folder in folders]
    assert after[0] == before[0]
    assert len(after[1]) == 1 and after[1] != before[1]


def test_a_run_that_cannot_be_logged_leaves_the_others(run_folder, tmp_path):
    other = finished_run(run_folder.parent, 0)
    (other / "task1" / "losses.csv").unlink()
    done = log_wandb(run_folder.parent, tmp_path / "home", code=1)
    assert "task1/losses.csv is missing" in done.stderr.splitlines()[0]
    assert done.stderr.splitlines()[1].startswith("error: 1 of 2 runs are not logged")
    assert len(history(records_of(run_folder))) == 2 * STEPS + 2
    assert not (other / "wandb").exists()


def test_disabled_logs_nothing(run_folder, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    wandb_log.log_runs([run_folder])
    assert not (run_folder / "wandb").exists()


def test_an_unknown_mode_and_a_folder_without_runs_are_errors_of_one_line(run_folder, tmp_path):
    done = log_wandb(run_folder, tmp_path / "home", code=1, WANDB_MODE="offlin")
    assert done.stderr.startswith("error: WANDB_MODE is 'offlin'; did you mean 'offline'")
    done = log_wandb(tmp_path / "home", tmp_path / "home", code=1)
    assert done.stderr.startswith("error: no finished run in")


def test_long_tasks_are_thinned_and_steps_are_counted_through(run_folder, monkeypatch):
    monkeypatch.setattr(wandb_log, "STEPS_PER_TASK", 2)
    assert [row["step"] for row in wandb_log._training_rows(run_folder, 2)] == [0, 2, 3, 5]


def test_a_joint_run_and_one_without_training_are_logged(run_folder):
    (run_folder / "task0" / "losses.csv").write_text("step,epoch,lr,total\n")
    (run_folder / "task1" / "losses.csv").unlink()
    assert list(wandb_log._training_rows(run_folder, 1)) == []


def test_settings_that_wandb_refuses_are_one_line_and_leave_what_is_logged(run_folder, tmp_path):
    log_wandb(run_folder, tmp_path / "home")
    before = sorted(run_folder.rglob("wandb/**/*"))
    write_metrics(run_folder, 1, 60.0)  # other results, which would replace the logged ones
    (tmp_path / "home/.netrc").write_text(f"machine notaurl login user password {'0' * 40}\n")  # logged in
    done = log_wandb(run_folder, tmp_path / "home", code=1, WANDB_BASE_URL="notaurl")
    assert done.stderr.startswith("error: W&B refuses its settings (")
    assert done.stderr.count("\n") == 1
    assert before and sorted(run_folder.rglob("wandb/**/*")) == before


def test_points_of_an_earlier_training_are_left_out(run_folder):
    """Task 0 is being trained again; the file of task 1 is from the training before."""
    for task, hour in ((0, 12), (1, 11)):
        line = f"2026-01-01T{hour}:00:00+00:00,1,1,0.1,9,2.0"
        (run_folder / f"task{task}/progress.csv").write_text(f"time,step,epoch,lr,images_per_second,total\n{line}\n")
    assert [row["task"] for row in wandb_log.point_rows(run_folder, 2)] == [0]
